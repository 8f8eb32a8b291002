// What a test may leave on the machine by accident: mounts below its folder, processes that use its state.
import { readFileSync, readdirSync } from 'node:fs';

/** Mount points below `dir`, deepest first; also dead ones. */
export function mountsBelow(dir: string): string[] {
  const points = readFileSync('/proc/self/mountinfo', 'latin1')
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '')
    .map((point) => point.replace(/\\([0-7]{3})/g, (_all, octal: string) => String.fromCharCode(parseInt(octal, 8))));
  return points.filter((point) => point.startsWith(`${dir}/`)).reverse();
}

/** Processes whose environment has `PEEL_ROOT` at or below `dir`: everything that a test's command line started. */
export function processesUsing(dir: string): number[] {
  return readdirSync('/proc')
    .map(Number)
    .filter((pid) => pid > 0 && pid !== process.pid && rootOf(pid)?.startsWith(dir));
}

function rootOf(pid: number): string | undefined {
  try {
    const variables = readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0');
    return variables.find((variable) => variable.startsWith('PEEL_ROOT='))?.slice('PEEL_ROOT='.length);
  } catch {
    return undefined; // ended meanwhile
  }
}

/** Type of the file system mounted at `dir`, without its subtype; undefined when nothing is. */
export function fileSystemAt(dir: string): string | undefined {
  const lines = readFileSync('/proc/self/mountinfo', 'latin1').split('\n');
  const line = lines.filter((candidate) => candidate.split(' ')[4] === dir).at(-1);
  return line?.split(' - ')[1]?.split(/[ .]/)[0];
}
