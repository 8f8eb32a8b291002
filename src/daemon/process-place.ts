// Where a process is: what the names of files and of hosts mean to it, and which files it may read.
import { readlinkSync, statSync } from 'node:fs';

export interface ProcessPlace {
  readonly uid: number;
  /** The mount namespace, with its root directory. */
  readonly files: string;
  /** The network namespace. */
  readonly network: string;
}

/** Of this process. Errors: those of a machine without /proc. */
export function processPlace(): ProcessPlace {
  const { dev, ino } = statSync('/');
  return {
    uid: process.geteuid?.() ?? 0,
    files: `${readlinkSync('/proc/self/ns/mnt')} ${dev}:${ino}`,
    network: readlinkSync('/proc/self/ns/net'),
  };
}

export function isSamePlace(a: ProcessPlace, b: ProcessPlace): boolean {
  return a.uid === b.uid && a.files === b.files && a.network === b.network;
}
