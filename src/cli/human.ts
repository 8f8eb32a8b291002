export { humanBytes } from '../util/human-bytes.ts';

/** Milliseconds for people: `340 ms`, `12.4 s`, `3 m 20 s`, `5 h 10 m`, `12 d 3 h`. */
export function humanDuration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 59_950) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} m ${seconds % 60} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 1_440) return `${Math.floor(minutes / 60)} h ${minutes % 60} m`;
  const hours = Math.floor(minutes / 60);
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

export function percent(part: number, whole: number): string {
  if (whole === 0) return '100 %';
  const value = (100 * part) / whole;
  // Neither end may be claimed by rounding.
  if (part > 0 && value < 1) return '<1 %';
  if (part < whole && value > 99) return '99 %';
  return `${Math.round(value)} %`;
}

/** `2026-03-01 12:00` in local time, as `ls --time-style=long-iso` prints it. `seconds` since the epoch. */
export function localMinute(seconds: number): string {
  const date = new Date(seconds * 1000);
  if (Number.isNaN(date.getTime())) return `@${seconds}`;
  const pad = (value: number): string => String(value).padStart(2, '0');
  const day = `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
  return `${day} ${pad(date.getHours())}:${pad(date.getMinutes())}`;
}

/** `sha256:0123456789ab` */
export function shortDigest(digest: string): string {
  const colon = digest.indexOf(':');
  return digest.slice(0, colon + 13);
}

/** A text from elsewhere, which must not steer a terminal. */
export function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, '?');
}

/** A text from elsewhere for a table: on one line, digests cut short. */
export function oneLine(text: string): string {
  return printable(text.replace(/\s+/g, ' ')).replace(/\bsha256:[0-9a-f]{64}\b/g, shortDigest);
}
