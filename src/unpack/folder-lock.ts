import { closeSync, constants, fstatSync, openSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { errorCode } from '../layer/errors.ts';
import { tryLock } from '../native/sys.ts';

/** A job's folder that nobody else works in: no other process, and nobody else in this one. A crash gives it up. */
export class FolderLock implements Disposable {
  #fd: number | undefined;

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /** Without waiting. `missing`: there is no such folder any more. Errors: errno codes. */
  static tryTake(folder: string): FolderLock | 'busy' | 'missing' {
    const path = join(folder, 'lock');
    let lock: FolderLock | undefined;
    try {
      const fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
      lock = new FolderLock(fd);
      if (!tryLock(fd, 'exclusive')) {
        lock.release();
        return 'busy';
      }
      // Whoever had it may have removed the folder since it was opened, and somebody else may have made another one at its place.
      if (statSync(path, { bigint: true }).ino === fstatSync(fd, { bigint: true }).ino) return lock;
      lock.release();
      return 'busy';
    } catch (error) {
      lock?.release();
      if (errorCode(error) === 'ENOENT' || errorCode(error) === 'ENOTDIR') return 'missing';
      throw error;
    }
  }

  get held(): boolean {
    return this.#fd !== undefined;
  }

  /** Idempotent. */
  release(): void {
    if (this.#fd === undefined) return;
    closeSync(this.#fd);
    this.#fd = undefined;
  }

  [Symbol.dispose](): void {
    this.release();
  }
}
