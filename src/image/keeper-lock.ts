// Of all processes on a state directory one makes room in the cache. The kernel drops the lock of one that dies; another one then has it.
import { closeSync, constants, openSync } from 'node:fs';
import { join } from 'node:path';
import { tryLock } from '../native/sys.ts';

export class KeeperLock implements Disposable {
  readonly #path: string;
  #fd: number | undefined;

  constructor(root: string) {
    this.#path = join(root, 'cache.lock');
  }

  /** Whether this process has it, or gets it now. Errors: errno codes. */
  take(): boolean {
    if (this.#fd !== undefined) return true;
    const fd = openSync(this.#path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
    try {
      if (tryLock(fd, 'exclusive')) this.#fd = fd;
    } finally {
      if (this.#fd === undefined) closeSync(fd);
    }
    return this.#fd !== undefined;
  }

  /** Idempotent. */
  [Symbol.dispose](): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }
}
