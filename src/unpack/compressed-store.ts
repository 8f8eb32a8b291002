import { lstat, open, readdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { errorCode } from '../layer/errors.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { digestAlgorithm, digestHex, isDigest } from '../oci/digest.ts';
import type { Digest } from '../oci/digest.ts';
import { makeDirectory } from '../util/make-directory.ts';
import { syncDirectory } from '../util/sync-directory.ts';
import { diskError } from './feed-errors.ts';

export interface KeptBlob {
  readonly digest: Digest;
  /** Bytes. */
  readonly size: number;
}

/** Compressed layers as they were pushed, by digest: `<root>/compressed/<algorithm>/<hex>`. They were verified when they came here; who reads them checks again. */
export class CompressedStore {
  readonly #dir: string;

  /** `root`: the state directory. */
  constructor(root: string) {
    this.#dir = join(root, 'compressed');
  }

  /** Where the blob is, or would be. */
  path(digest: Digest): string {
    return join(this.#dir, digestAlgorithm(digest), digestHex(digest));
  }

  /** False too for something else of that name, or of another size. Errors: ERR_UNPACK_DISK. */
  async has({ digest, size }: Pick<Descriptor, 'digest' | 'size'>): Promise<boolean> {
    const found = await this.#guard('look at', this.path(digest), async (path) => await orAbsent(lstat(path)));
    return found !== undefined && found.isFile() && found.size === size;
  }

  /**
   * Takes a verified blob's file, on the same filesystem, by rename; one that is there is replaced. Durable when it returns.
   * Errors: ERR_UNPACK_DISK; the file is then where it was.
   */
  async keep(digest: Digest, file: string): Promise<void> {
    await this.#guard('keep', this.path(digest), async (path) => {
      const made: string[] = [];
      await makeDirectory(dirname(path), 0o700, (directory) => made.push(directory));
      await syncFile(file);
      await rename(file, path);
      for (const directory of new Set([dirname(path), ...made.map(dirname)])) await syncDirectory(directory);
    });
  }

  /** False when it is not there. Errors: ERR_UNPACK_DISK. */
  async remove(digest: Digest): Promise<boolean> {
    const removed = await this.#guard('remove', this.path(digest), async (path) => {
      const found = await orAbsent(lstat(path));
      await rm(path, { force: true });
      return found;
    });
    return removed !== undefined;
  }

  /** In no order. Errors: ERR_UNPACK_DISK. */
  async list(): Promise<KeptBlob[]> {
    const kept: KeptBlob[] = [];
    for (const algorithm of ['sha256', 'sha512']) {
      const names = await this.#guard('list', join(this.#dir, algorithm), (path) => orAbsent(readdir(path)));
      for (const name of names ?? []) {
        const digest = `${algorithm}:${name}`;
        if (!isDigest(digest)) continue;
        const found = await this.#guard('look at', this.path(digest), (path) => orAbsent(lstat(path)));
        if (found?.isFile() === true) kept.push({ digest, size: found.size });
      }
    }
    return kept;
  }

  async #guard<T>(what: string, path: string, work: (path: string) => Promise<T>): Promise<T> {
    try {
      return await work(path);
    } catch (cause) {
      throw diskError(`cannot ${what} ${path}`, cause);
    }
  }
}

async function orAbsent<T>(found: Promise<T>): Promise<T | undefined> {
  try {
    return await found;
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

async function syncFile(path: string): Promise<void> {
  const file = await open(path, 'r');
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}
