// The folders of unpack jobs: `<root>/unpack/<job in base 36>/{lock,fs,...}`; short names, as a job's tree becomes a snapshot's. One that is
// being made is called `new-*`, one that is being removed `old-*`.
import { randomUUID } from 'node:crypto';
import { lstatSync, renameSync } from 'node:fs';
import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { errorCode, errorMessage } from '../layer/errors.ts';
import { makeDirectory } from '../util/make-directory.ts';
import { removeTree } from '../util/remove-tree.ts';
import { syncDirectory } from '../util/sync-directory.ts';
import { UnpackError } from './errors.ts';
import { FolderLock } from './folder-lock.ts';

/** A folder that no job has yet, locked. */
export interface FreshFolder {
  readonly path: string;
  readonly lock: FolderLock;
}

/** A sweep of another process may take a folder for garbage before it is locked, but hardly twice. */
const maxAttempts = 5;

export class JobFolders {
  readonly #dir: string;

  constructor(root: string) {
    this.#dir = join(root, 'unpack');
  }

  of(job: number): string {
    return join(this.#dir, job.toString(36));
  }

  /** Where the job's tree lies. */
  treeOf(job: number): string {
    return join(this.of(job), 'fs');
  }

  hasTree(job: number): boolean {
    return lstatSync(this.treeOf(job), { throwIfNoEntry: false })?.isDirectory() === true;
  }

  /** Without waiting. */
  tryLock(job: number): FolderLock | 'busy' | 'missing' {
    return FolderLock.tryTake(this.of(job));
  }

  /** With an empty tree. The caller gives it to a job or discards it. Errors: ERR_UNPACK_FOLDER, ERR_UNPACK_DISK. */
  async make(): Promise<FreshFolder> {
    try {
      await makeDirectory(this.#dir, 0o700);
      for (let attempt = 0; attempt < maxAttempts; attempt += 1) {
        const fresh = await this.#tryMake();
        if (fresh !== undefined) return fresh;
      }
    } catch (error) {
      throw this.#refused(this.#dir, error);
    }
    throw new UnpackError('ERR_UNPACK_FOLDER', `somebody else removes what is made in ${this.#dir}`);
  }

  /**
   * Without waiting: part of the transaction that makes the job's row, so that there never is a row without a folder.
   * Errors: ERR_UNPACK_FOLDER, ERR_UNPACK_DISK.
   */
  adopt(fresh: FreshFolder, job: number): void {
    try {
      try {
        renameSync(fresh.path, this.of(job));
      } catch (error) {
        if (!['ENOTEMPTY', 'EEXIST', 'ENOTDIR'].includes(errorCode(error) ?? '')) throw error;
        // Most likely left by a process that ended within the transaction; its number is given again.
        renameSync(this.of(job), this.#old());
        renameSync(fresh.path, this.of(job));
      }
    } catch (error) {
      throw this.#refused(this.of(job), error);
    }
  }

  /** Undoes an adoption whose transaction failed; at once, for the next job is given the same number. */
  giveBack(fresh: FreshFolder, job: number): void {
    renameSync(this.of(job), fresh.path);
  }

  /** Makes an adopted folder durable. Errors: ERR_UNPACK_DISK. */
  async sync(job: number): Promise<void> {
    try {
      await syncDirectory(this.of(job));
      await syncDirectory(this.#dir);
    } catch (error) {
      throw this.#refused(this.of(job), error);
    }
  }

  /** Whatever was there, the tree is empty then. The lock is held. Errors: ERR_UNPACK_DISK. */
  async emptyTree(job: number): Promise<void> {
    try {
      await removeTree(this.treeOf(job));
      await mkdir(this.treeOf(job), 0o700);
    } catch (error) {
      throw this.#refused(this.treeOf(job), error);
    }
  }

  /** Removes the folder of a job that has no row, or needs none; the lock is held. Errors: errno codes; what is left is garbage then. */
  async remove(job: number): Promise<void> {
    const old = this.#old();
    try {
      // At once, so that nobody sees half of it.
      renameSync(this.of(job), old);
    } catch (error) {
      if (errorCode(error) === 'ENOENT') return;
      throw error;
    }
    await removeTree(old);
  }

  async discard(fresh: FreshFolder): Promise<void> {
    await removeTree(fresh.path);
    fresh.lock.release();
  }

  /** Everything that is there, and the job that a name stands for, or would. */
  async names(): Promise<{ readonly name: string; readonly job: number | undefined }[]> {
    try {
      return (await readdir(this.#dir)).map((name) => ({ name, job: jobOf(name) }));
    } catch (error) {
      if (errorCode(error) === 'ENOENT') return [];
      throw error;
    }
  }

  /**
   * Removes what no job has. False when somebody is about to give it to one, or removes it. `isKept` is asked once nobody else can do
   * either. Errors: errno codes.
   */
  async sweep(name: string, isKept: () => boolean): Promise<boolean> {
    const path = join(this.#dir, name);
    const lock = FolderLock.tryTake(path);
    if (lock === 'busy') return false;
    try {
      if (isKept()) return false;
      await removeTree(path);
      return true;
    } finally {
      if (lock !== 'missing') lock.release();
    }
  }

  async #tryMake(): Promise<FreshFolder | undefined> {
    const path = join(this.#dir, `new-${randomUUID()}`);
    await mkdir(path, 0o700);
    const lock = FolderLock.tryTake(path);
    if (lock === 'busy' || lock === 'missing') return undefined;
    try {
      await mkdir(join(path, 'fs'), 0o700);
      return { path, lock };
    } catch (error) {
      await this.discard({ path, lock });
      throw error;
    }
  }

  #old(): string {
    return join(this.#dir, `old-${randomUUID()}`);
  }

  #refused(path: string, error: unknown): UnpackError {
    if (error instanceof UnpackError) return error;
    const code = errorCode(error);
    if (code === 'EEXIST' || code === 'ENOTDIR' || code === 'ELOOP') {
      return new UnpackError('ERR_UNPACK_FOLDER', `no folder can be made at ${path}: something else is there`, {
        cause: error,
      });
    }
    return new UnpackError('ERR_UNPACK_DISK', `cannot write to ${path}: ${errorMessage(error)}`, { cause: error });
  }
}

/** Undefined for a name that is no number as we write it. */
function jobOf(name: string): number | undefined {
  const job = Number.parseInt(name, 36);
  return Number.isSafeInteger(job) && job.toString(36) === name ? job : undefined;
}
