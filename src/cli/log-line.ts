// A line of our JSON log, for people.
import { printable } from './human.ts';

const levelNames: Readonly<Record<number, string>> = { 20: 'debug', 30: 'info', 40: 'warn', 50: 'error', 60: 'fatal' };

/** `12:00:01.250 warn  layer: reads fail  blob=… errno=EIO`, in local time. A line that is no JSON stays as it is. */
export function humanLogLine(line: string): string {
  const record = parse(line);
  if (record === undefined) return printable(line);
  const { time, level, component, msg, pid: _pid, ...rest } = record;
  const head = `${clock(time)} ${(levelNames[Number(level)] ?? String(level)).padEnd(5)}`;
  const who = typeof component === 'string' ? `${component}: ` : '';
  const fields = Object.entries(rest).map(([name, value]) => `${name}=${word(value)}`);
  return printable(
    `${head} ${who}${typeof msg === 'string' ? msg : ''}${fields.length === 0 ? '' : `  ${fields.join(' ')}`}`,
  );
}

/** Whether the line is about the mount. */
export function isAboutMount(line: string, id: string): boolean {
  return parse(line)?.['mount'] === id;
}

function parse(line: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

function clock(time: unknown): string {
  const date = new Date(typeof time === 'string' || typeof time === 'number' ? time : Number.NaN);
  if (Number.isNaN(date.getTime())) return '--:--:--.---';
  const pad = (value: number, width = 2) => String(value).padStart(width, '0');
  return `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}.${pad(date.getMilliseconds(), 3)}`;
}

function word(value: unknown): string {
  return typeof value === 'string' && /^[\w@%+=:,./-]+$/.test(value) ? value : JSON.stringify(value);
}
