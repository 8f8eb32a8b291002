import { randomBytes } from 'node:crypto';
import { link, rename, rm, stat, unlink, utimes } from 'node:fs/promises';
import path from 'node:path';
import type { Digest } from '../../oci/digest.ts';
import { makeDirectory } from '../../util/make-directory.ts';
import { isNotFound, syncDirectory, syncFile } from './durable-file.ts';
import type { StorePaths } from './paths.ts';

/**
 * All content of the store, once each. A repository that has it holds a hard link, so the file system counts the users, and several processes may add
 * and drop at once without a lock.
 */
export class ContentPool {
  readonly #paths: StorePaths;

  constructor(paths: StorePaths) {
    this.#paths = paths;
  }

  /** Makes a complete, checked `file` content of the pool and of `own`, durably. False when the file was gone; it is gone afterwards. */
  async adopt(digest: Digest, file: string, own: string): Promise<boolean> {
    if (!(await syncFile(file))) return false;
    const pool = this.#paths.pool(digest);
    await makeDirectory(path.dirname(pool));
    await makeDirectory(path.dirname(own));
    for (const place of [pool, own]) await this.#replaceDamaged(file, place);
    // Content that is in the pool already is used instead of ours. When it is dropped at this moment, ours takes its place.
    do {
      if (!(await linkIfAbsent(file, pool))) return false;
    } while (!(await this.#linkFromPool(digest, file, own)));
    await renew(own);
    await syncDirectory(path.dirname(pool));
    await syncDirectory(path.dirname(own));
    await rm(file, { force: true });
    return true;
  }

  /** Forgets content that no repository has; its size in bytes when it did. */
  async drop(digest: Digest): Promise<number | undefined> {
    const pool = this.#paths.pool(digest);
    if ((await statIfPresent(pool))?.nlink !== 1) return undefined;
    const doomed = beside(pool);
    try {
      await rename(pool, doomed);
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
    return await this.finishDrop(doomed, digest);
  }

  /** The second half of a drop, which a process may have died before. */
  async finishDrop(doomed: string, digest: Digest): Promise<number | undefined> {
    const found = await statIfPresent(doomed);
    if (found === undefined) return undefined;
    // A link that somebody made since keeps the content, which then goes back to where it was.
    if (found.nlink > 1) await linkIfAbsent(doomed, this.#paths.pool(digest));
    await rm(doomed, { force: true });
    return found.nlink > 1 ? undefined : found.size;
  }

  /** False when the pool has it no more. */
  async #linkFromPool(digest: Digest, file: string, own: string): Promise<boolean> {
    const pool = this.#paths.pool(digest);
    try {
      return await linkIfAbsent(pool, own);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EMLINK') throw error;
      // A file has only so many names (65 000 on ext4): from here on the content lies there once more.
      await this.#replace(file, pool);
      return false;
    }
  }

  /** What the disk cut short is not taken for the content, and not kept when the content comes again. */
  async #replaceDamaged(file: string, place: string): Promise<void> {
    const [ours, found] = [await statIfPresent(file), await statIfPresent(place)];
    if (ours !== undefined && found !== undefined && found.size !== ours.size) await this.#replace(file, place);
  }

  async #replace(file: string, place: string): Promise<void> {
    const fresh = beside(place);
    await link(file, fresh);
    await rename(fresh, place);
  }
}

/** A temporary name that says what it is a name of. */
function beside(file: string): string {
  return path.join(path.dirname(file), `.${path.basename(file)}.${randomBytes(8).toString('hex')}.tmp`);
}

/** True when `target` exists afterwards, false when there was no `source`. */
export async function linkIfAbsent(source: string, target: string): Promise<boolean> {
  try {
    await link(source, target);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') return true;
    if (code === 'ENOENT') return false;
    throw error;
  }
}

/** What was just used counts as new, so that the collector's period of grace covers it. Errors: ENOENT. */
export async function renew(file: string): Promise<void> {
  const now = new Date();
  await utimes(file, now, now);
}

export async function statIfPresent(file: string) {
  try {
    return await stat(file);
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}

/** False when it was not there. */
export async function unlinkIfPresent(file: string): Promise<boolean> {
  try {
    await unlink(file);
    return true;
  } catch (error) {
    if (isNotFound(error)) return false;
    throw error;
  }
}
