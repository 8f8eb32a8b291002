// flock(2) on files that are there for nothing else. The kernel drops the lock of a process that dies, so none is ever stale.
import { closeSync, openSync } from 'node:fs';
import path from 'node:path';
import { tryLock } from '../../native/sys.ts';
import { systemTimer } from '../../util/backoff.ts';
import type { CallOptions } from '../interface.ts';
import { isNotFound, makeFolder } from './durable-file.ts';

export type LockMode = 'shared' | 'exclusive';

const longestPauseMs = 32;

/** Waits for the lock on `file`, which is made when it is missing. Errors: the signal's reason, those of the file system. */
export async function lockFile(file: string, mode: LockMode, options: CallOptions = {}): Promise<Disposable> {
  for (let round = 0; ; round += 1) {
    options.signal?.throwIfAborted();
    const fd = await tryLockFile(file, mode);
    if (fd !== undefined) return { [Symbol.dispose]: () => closeSync(fd) };
    await pause(round, options);
  }
}

/** The wait before the next attempt to take a lock that somebody has. */
export async function pause(round: number, options: CallOptions): Promise<void> {
  await systemTimer.sleep(Math.min(2 ** round, longestPauseMs), options.signal);
}

/** Synchronous where it can be: a lock that is free is not queued behind the syncs in the thread pool. */
async function tryLockFile(file: string, mode: LockMode): Promise<number | undefined> {
  let fd: number;
  try {
    fd = openSync(file, 'a');
  } catch (error) {
    if (!isNotFound(error)) throw error;
    await makeFolder(path.dirname(file));
    fd = openSync(file, 'a');
  }
  try {
    if (tryLock(fd, mode)) return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  closeSync(fd);
  return undefined;
}
