import { readFile } from 'node:fs/promises';
import { errorCode } from '../layer/errors.ts';

/** A process that cannot be confused with a later one of the same number. */
export interface ProcessIdentity {
  readonly pid: number;
  /** Clock ticks since boot, as /proc/PID/stat says. */
  readonly pidStart: string;
  readonly boot: string;
}

/** The last two where /proc hides the processes of others: none of them is ours. */
const gone: ReadonlySet<string> = new Set(['ENOENT', 'ESRCH', 'EACCES', 'EPERM']);

/** Do not change, and are asked for where no more files may be opened. */
let boot: string | undefined;
let own: ProcessIdentity | undefined;

export async function bootId(): Promise<string> {
  boot ??= (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
  return boot;
}

export async function ownIdentity(): Promise<ProcessIdentity> {
  own ??= { pid: process.pid, pidStart: (await startTime(process.pid)) ?? '', boot: await bootId() };
  return own;
}

/** False for a process that has ended, also when it is a zombie or its number belongs to another one by now. Errors: those of reading what may be read. */
export async function isRunning(identity: ProcessIdentity): Promise<boolean> {
  if (identity.boot !== (await bootId())) return false;
  const { pid, pidStart } = identity;
  return pidStart === (pid === process.pid ? (await ownIdentity()).pidStart : await startTime(pid));
}

/** Undefined when there is no such process, or only its zombie. */
async function startTime(pid: number): Promise<string | undefined> {
  let stat: string;
  try {
    stat = await readFile(`/proc/${pid}/stat`, 'utf8');
  } catch (error) {
    if (gone.has(errorCode(error) ?? '')) return undefined;
    throw error;
  }
  // The command name stands in parentheses and may hold any character; the fields after it are fixed (proc(5)).
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19];
}
