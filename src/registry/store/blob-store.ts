import { createReadStream } from 'node:fs';
import path from 'node:path';
import { digestAlgorithm } from '../../oci/digest.ts';
import type { Digest } from '../../oci/digest.ts';
import { contentHash } from '../blob-content.ts';
import { RegistryError } from '../errors.ts';
import type { CallOptions } from '../interface.ts';
import { linkIfAbsent, renewIfPresent, statIfPresent, unlinkIfPresent } from './content-pool.ts';
import type { ContentPool } from './content-pool.ts';
import { syncDirectory } from './durable-file.ts';
import type { StorePaths } from './paths.ts';

/** The blobs of all repositories: which repository has which content of the pool. */
export class BlobStore {
  readonly #paths: StorePaths;
  readonly #pool: ContentPool;

  constructor(paths: StorePaths, pool: ContentPool) {
    this.#paths = paths;
    this.#pool = pool;
  }

  /** Size in bytes and time of the last use; undefined when the repository does not have the blob. */
  async find(
    repository: string,
    digest: Digest,
  ): Promise<{ readonly size: number; readonly mtimeMs: number } | undefined> {
    return await statIfPresent(this.#paths.blob(repository, digest));
  }

  /** Makes a complete, checked and synced `file` the blob `digest` of the repository, durably. False when the file was gone; it is gone afterwards. */
  async adopt(repository: string, digest: Digest, file: string): Promise<boolean> {
    return await this.#pool.adopt(digest, file, this.#paths.blob(repository, digest));
  }

  /** False when `from` does not have the blob. Errors: UNSUPPORTED when its file can have no more names. */
  async mount(from: string, to: string, digest: Digest): Promise<boolean> {
    const source = this.#paths.blob(from, digest);
    if ((await statIfPresent(source)) === undefined) return false;
    const own = this.#paths.blob(to, digest);
    try {
      if ((await linkIfAbsent(source, own)) === 'no source') return false;
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== 'EMLINK') throw cause;
      throw new RegistryError('UNSUPPORTED', `blob ${digest} is in too many repositories to be mounted`, { cause });
    }
    // Somebody may have deleted it since: then it was there before that.
    await renewIfPresent(own);
    await syncDirectory(path.dirname(own));
    return true;
  }

  /** False when the repository does not have the blob. The content stays. */
  async remove(repository: string, digest: Digest): Promise<boolean> {
    const own = this.#paths.blob(repository, digest);
    if (!(await unlinkIfPresent(own))) return false;
    await syncDirectory(path.dirname(own));
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
