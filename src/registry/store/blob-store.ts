import { createReadStream } from 'node:fs';
import { link, open, rm, stat, unlink } from 'node:fs/promises';
import path from 'node:path';
import { digestAlgorithm } from '../../oci/digest.ts';
import type { Digest } from '../../oci/digest.ts';
import { makeDirectory } from '../../util/make-directory.ts';
import { contentHash } from '../blob-content.ts';
import { RegistryError } from '../errors.ts';
import type { CallOptions } from '../interface.ts';
import { isNotFound, syncDirectory } from './durable-file.ts';
import type { StorePaths } from './paths.ts';

/**
 * The blobs of all repositories. Content lies once in a pool and a repository that has it holds a hard link, so the file system counts the users:
 * several processes may push, mount and delete at once without a lock.
 */
export class BlobStore {
  readonly #paths: StorePaths;

  constructor(paths: StorePaths) {
    this.#paths = paths;
  }

  /** Size in bytes; undefined when the repository does not have the blob. */
  async size(repository: string, digest: Digest): Promise<number | undefined> {
    try {
      return (await stat(this.#paths.blob(repository, digest))).size;
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  }

  /** Makes a complete, checked `file` the blob `digest` of the repository, durably. The file is gone afterwards. */
  async adopt(repository: string, digest: Digest, file: string): Promise<void> {
    const handle = await open(file, 'r');
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
    const pool = this.#paths.pool(digest);
    const own = this.#paths.blob(repository, digest);
    await makeParents(pool, own);
    await linkIfAbsent(file, pool);
    // Content that is in the pool already is used instead of ours, unless it is deleted at this moment.
    if (!(await linkIfAbsent(pool, own))) await linkIfAbsent(file, own);
    await unlink(file);
    await syncDirectory(path.dirname(pool));
    await syncDirectory(path.dirname(own));
  }

  /** False when `from` does not have the blob. */
  async mount(from: string, to: string, digest: Digest): Promise<boolean> {
    const source = this.#paths.blob(from, digest);
    if ((await this.size(from, digest)) === undefined) return false;
    const own = this.#paths.blob(to, digest);
    await makeParents(own);
    if (!(await linkIfAbsent(source, own))) return false;
    await syncDirectory(path.dirname(own));
    return true;
  }

  /** False when the repository does not have the blob. The content goes with its last user. */
  async remove(repository: string, digest: Digest): Promise<boolean> {
    const own = this.#paths.blob(repository, digest);
    try {
      await unlink(own);
    } catch (error) {
      if (isNotFound(error)) return false;
      throw error;
    }
    await syncDirectory(path.dirname(own));
    const pool = this.#paths.pool(digest);
    const left = await stat(pool).catch(() => undefined);
    // A link made between these two lines keeps the content; only the pool forgets it.
    if (left?.nlink === 1) await rm(pool, { force: true });
    return true;
  }
}

/** Reads a file and gives its digest. Errors: the signal's reason. */
export async function digestOfFile(file: string, digest: Digest, options: CallOptions = {}): Promise<Digest> {
  const hash = contentHash(digestAlgorithm(digest));
  const stream = createReadStream(file, {
    highWaterMark: 1024 * 1024,
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  });
  for await (const chunk of stream as AsyncIterable<Buffer>) hash.update(chunk);
  return hash.digest();
}

/** True when `target` exists afterwards, false when there was no `source`. */
async function linkIfAbsent(source: string, target: string): Promise<boolean> {
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

async function makeParents(...files: readonly string[]): Promise<void> {
  for (const file of files) await makeDirectory(path.dirname(file));
}

export function blobUnknown(repository: string, digest: Digest): RegistryError {
  return new RegistryError('BLOB_UNKNOWN', `blob ${digest} of ${repository} not found`);
}
