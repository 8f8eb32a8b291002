// Where an image is unpacked for a person: beside the directory that was named, until all of it is there.
import { mkdir, open, readdir, rename } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { errorCode, errorMessage } from '../layer/errors.ts';
import { tryLock } from '../native/sys.ts';
import { removeTree } from '../util/remove-tree.ts';
import { syncDirectory } from '../util/sync-directory.ts';
import { UnpackError } from './errors.ts';

export class UnpackPlace implements AsyncDisposable {
  /** The directory to unpack into: empty, and nobody else's. */
  readonly staging: string;
  readonly #dir: string;
  readonly #lock: FileHandle;
  #isTaken = false;

  private constructor(dir: string, staging: string, lock: FileHandle) {
    this.#dir = dir;
    this.staging = staging;
    this.#lock = lock;
  }

  /** Errors: ERR_UNPACK_DESTINATION unless `dir` is an empty directory or nothing, and nobody else unpacks there; errno codes. */
  static async open(path: string): Promise<UnpackPlace> {
    const dir = resolve(path);
    await checkEmpty(dir);
    const staging = join(dirname(dir), `.${basename(dir)}.unpacking`);
    await mkdir(staging, { recursive: true, mode: 0o700 });
    const lock = await open(staging, 'r');
    try {
      if (!tryLock(lock.fd, 'exclusive'))
        throw new UnpackError('ERR_UNPACK_DESTINATION', `another process unpacks to ${dir}`);
      // What a process left that was killed.
      for (const name of await readdir(staging)) await removeTree(join(staging, name));
      return new UnpackPlace(dir, staging, lock);
    } catch (error) {
      await lock.close();
      throw error;
    }
  }

  /** Shows what was unpacked. Errors: ERR_UNPACK_DESTINATION when something came to be there meanwhile. */
  async appear(): Promise<void> {
    try {
      await rename(this.staging, this.#dir);
    } catch (cause) {
      const code = errorCode(cause);
      if (code !== 'ENOTEMPTY' && code !== 'EEXIST' && code !== 'ENOTDIR') throw cause;
      throw notEmpty(this.#dir, cause);
    }
    this.#isTaken = true;
    await syncDirectory(dirname(this.#dir));
  }

  /** Removes what did not appear. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      if (!this.#isTaken) await removeTree(this.staging);
    } finally {
      await this.#lock.close();
    }
  }
}

async function checkEmpty(dir: string): Promise<void> {
  try {
    if ((await readdir(dir)).length > 0) throw notEmpty(dir);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return;
    if (errorCode(error) === 'ENOTDIR') throw notEmpty(dir, error);
    throw error;
  }
}

function notEmpty(dir: string, cause?: unknown): UnpackError {
  const why = cause === undefined ? '' : `: ${errorMessage(cause)}`;
  return new UnpackError('ERR_UNPACK_DESTINATION', `${dir} is not an empty directory${why}`, { cause });
}
