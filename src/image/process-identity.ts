import { readFile } from 'node:fs/promises';

/** A process that cannot be confused with a later one of the same number. */
export interface ProcessIdentity {
  readonly pid: number;
  /** Clock ticks since boot, as /proc/PID/stat says. */
  readonly pidStart: string;
  readonly boot: string;
}

export async function bootId(): Promise<string> {
  return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
}

export async function ownIdentity(): Promise<ProcessIdentity> {
  return { pid: process.pid, pidStart: (await startTime(process.pid)) ?? '', boot: await bootId() };
}

/** False for a process that has ended, also when it is a zombie or its number belongs to another one by now. */
export async function isRunning(identity: ProcessIdentity): Promise<boolean> {
  if (identity.boot !== (await bootId())) return false;
  return (await startTime(identity.pid)) === identity.pidStart;
}

/** Undefined when there is no such process, or only its zombie. */
async function startTime(pid: number): Promise<string | undefined> {
  let stat: string;
  try {
    stat = await readFile(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return undefined;
  }
  // The command name stands in parentheses and may hold any character; the fields after it are fixed (proc(5)).
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19];
}
