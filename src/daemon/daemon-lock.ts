// One daemon for a run directory and for a state directory. The kernel drops the lock of a process that dies.
import { closeSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { tryLock } from '../native/sys.ts';
import { DaemonError } from './errors.ts';

/** Held until it is disposed of or the process ends. Errors: ERR_DAEMON_RUNNING naming the process that holds it. */
export function lockDaemon(dirs: readonly string[]): Disposable {
  const held: number[] = [];
  const release = () => {
    for (const fd of held.splice(0)) closeSync(fd);
  };
  try {
    for (const dir of new Set(dirs)) held.push(lockFile(dir));
  } catch (error) {
    release();
    throw error;
  }
  return { [Symbol.dispose]: release };
}

function lockFile(dir: string): number {
  const path = join(dir, 'daemon.lock');
  const fd = openSync(path, 'a', 0o600);
  try {
    if (!tryLock(fd, 'exclusive')) {
      const pid = /^\d+/.exec(readFileSync(path, 'utf8'))?.[0] ?? 'unknown';
      throw new DaemonError('ERR_DAEMON_RUNNING', `a peel daemon (process ${pid}) already uses ${dir}: stop it first`);
    }
    ftruncateSync(fd);
    writeSync(fd, `${process.pid}\n`);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}
