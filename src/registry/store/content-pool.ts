import { randomBytes } from 'node:crypto';
import { link, rename, stat, unlink, utimes } from 'node:fs/promises';
import path from 'node:path';
import type { Digest } from '../../oci/digest.ts';
import { isNotFound, makeFolder, syncDirectory } from './durable-file.ts';
import type { StorePaths } from './paths.ts';

type Linked = 'linked' | 'present' | 'no source';

/**
 * All content of the store, once each. A repository that has it holds a hard link, so the file system counts the users, and several processes may add
 * and drop at once without a lock.
 */
export class ContentPool {
  readonly #paths: StorePaths;

  constructor(paths: StorePaths) {
    this.#paths = paths;
  }

  /** Makes a complete, checked and synced `file` content of the pool and of `own`, durably. False when the file was gone; it is gone afterwards. */
  async adopt(digest: Digest, file: string, own: string): Promise<boolean> {
    const pool = this.#paths.pool(digest);
    // Content that is in the pool already is used instead of ours. When it is dropped at this moment, ours takes its place.
    do {
      if (!(await this.#linkWhole(file, pool, file))) return false;
    } while (!(await this.#linkFromPool(digest, file, own)));
    // Somebody may have deleted it since: then it was there before that.
    await renewIfPresent(own);
    await Promise.all([pool, own].map((place) => syncDirectory(path.dirname(place))));
    await unlinkIfPresent(file);
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
    await unlinkIfPresent(doomed);
    return found.nlink > 1 ? undefined : found.size;
  }

  /** False when the pool has it no more. */
  async #linkFromPool(digest: Digest, file: string, own: string): Promise<boolean> {
    const pool = this.#paths.pool(digest);
    try {
      return await this.#linkWhole(pool, own, file);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EMLINK') throw error;
      // A file has only so many names (65 000 on ext4): from here on the content lies there once more.
      await this.#replace(file, pool);
      return false;
    }
  }

  /** Like `linkIfAbsent`. What the disk cut short is not taken for the content of `whole`, and not kept when that comes again. */
  async #linkWhole(source: string, target: string, whole: string): Promise<boolean> {
    const result = await linkIfAbsent(source, target);
    if (result === 'present') {
      const [ours, found] = [await statIfPresent(whole), await statIfPresent(target)];
      if (ours !== undefined && found !== undefined && found.size !== ours.size) await this.#replace(whole, target);
    }
    return result !== 'no source';
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

/** `target` exists afterwards unless there was no `source`. Its folder is made when it is missing; nobody may remove it at this moment. */
export async function linkIfAbsent(source: string, target: string): Promise<Linked> {
  const first = await tryLink(source, target);
  if (first !== 'no source') return first;
  await makeFolder(path.dirname(target));
  return await tryLink(source, target);
}

/** No source also when the folder of `target` is missing. */
async function tryLink(source: string, target: string): Promise<Linked> {
  try {
    await link(source, target);
    return 'linked';
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') return 'present';
    if (code === 'ENOENT') return 'no source';
    throw error;
  }
}

/** What was just used counts as new, so that the collector's period of grace covers it. Errors: ENOENT. */
export async function renew(file: string): Promise<void> {
  const now = new Date();
  await utimes(file, now, now);
}

/** False when it was not there. */
export async function renewIfPresent(file: string): Promise<boolean> {
  try {
    await renew(file);
    return true;
  } catch (error) {
    if (isNotFound(error)) return false;
    throw error;
  }
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
