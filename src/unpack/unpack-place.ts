// Where an image is unpacked for a person: beside the directory that was named, until all of it is there.
import { constants } from 'node:fs';
import { lstat, mkdir, open, readdir, rename } from 'node:fs/promises';
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
  /** Has `staging` in it, and is entered by nobody else, whatever the image says of its root. */
  readonly #around: string;
  readonly #lock: FileHandle;

  private constructor(dir: string, around: string, lock: FileHandle) {
    this.#dir = dir;
    this.#around = around;
    this.staging = join(around, 'fs');
    this.#lock = lock;
  }

  /** Errors: ERR_UNPACK_DESTINATION unless `dir` is an empty directory or nothing, and nobody else unpacks there; errno codes. */
  static async open(path: string): Promise<UnpackPlace> {
    const dir = resolve(path);
    await checkEmpty(dir);
    const around = join(dirname(dir), `.${basename(dir)}.unpacking`);
    const lock = await openOwn(around);
    try {
      // Another process may have shown it, or removed it, since it was opened.
      if (!tryLock(lock.fd, 'exclusive') || !(await isAt(around, lock)))
        throw new UnpackError('ERR_UNPACK_DESTINATION', `another process unpacks to ${dir}`);
    } catch (error) {
      await lock.close();
      throw error;
    }
    const place = new UnpackPlace(dir, around, lock);
    try {
      // What a process left that was killed.
      for (const name of await readdir(around)) await removeTree(join(around, name));
      await mkdir(place.staging, { mode: 0o700 });
      return place;
    } catch (error) {
      await place[Symbol.asyncDispose]();
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
    await syncDirectory(dirname(this.#dir));
  }

  /** Removes what did not appear. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await removeTree(this.#around);
    } finally {
      await this.#lock.close();
    }
  }
}

/**
 * The directory, made unless it is there: whoever may write beside `dir` must not choose what is emptied, or watch what is unpacked.
 * Errors: ERR_UNPACK_DESTINATION, errno codes.
 */
async function openOwn(path: string): Promise<FileHandle> {
  await mkdir(path, { mode: 0o700 }).catch((cause: unknown) => {
    if (errorCode(cause) === 'EEXIST') return;
    throw new UnpackError('ERR_UNPACK_DESTINATION', `nothing can be made in ${dirname(path)}: ${errorMessage(cause)}`, {
      cause,
    });
  });
  const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW } = constants;
  const opened = await open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW).catch((cause: unknown) => {
    const code = errorCode(cause);
    throw code === 'ENOTDIR' || code === 'ELOOP' ? notOurs(path, cause) : cause;
  });
  try {
    const { uid, mode } = await opened.stat();
    if (uid !== process.geteuid?.() || (mode & 0o022) !== 0) throw notOurs(path);
    return opened;
  } catch (error) {
    await opened.close();
    throw error;
  }
}

async function isAt(path: string, opened: FileHandle): Promise<boolean> {
  const [there, own] = [
    await lstat(path, { bigint: true }).catch(() => undefined),
    await opened.stat({ bigint: true }),
  ];
  return there?.ino === own.ino && there.dev === own.dev;
}

function notOurs(path: string, cause?: unknown): UnpackError {
  return new UnpackError('ERR_UNPACK_DESTINATION', `${path} is in the way: it is not a directory of ours`, { cause });
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
