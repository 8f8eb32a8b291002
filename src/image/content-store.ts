import { createHash } from 'node:crypto';
import { mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Descriptor } from '../oci/descriptor.ts';
import { digestAlgorithm, digestHex } from '../oci/digest.ts';
import type { Digest } from '../oci/digest.ts';
import { writeWhole } from '../util/write-whole.ts';
import { ImageError } from './errors.ts';

/** What came from a registry and is larger is no manifest or config: registries refuse them at 4 MiB. What was made here may have any size. */
export const maxContentBytes = 16 << 20;

export function verifyContent(digest: Digest, bytes: Uint8Array): boolean {
  return createHash(digestAlgorithm(digest)).update(bytes).digest('hex') === digestHex(digest);
}

/**
 * Content by digest: manifests, configs and index manifests, and the blobs of indexes that were made here (zTOCs, peel tables, windows). Each is
 * read and written as a whole. What it returns has the digest that was asked for.
 */
export class ContentStore {
  readonly #dir: string;

  constructor(root: string) {
    this.#dir = join(root, 'content');
  }

  /** Undefined when it is not here, or is damaged (then it is removed, to be fetched again). */
  async get(digest: Digest): Promise<Uint8Array | undefined> {
    const path = this.#path(digest);
    let bytes: Buffer;
    try {
      bytes = await readFile(path);
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
      throw error;
    }
    if (verifyContent(digest, bytes)) return bytes;
    await rm(path, { force: true });
    return undefined;
  }

  /** Durable when it returns. Errors: ERR_IMAGE_CONTENT when the bytes do not hash to `digest`. */
  async put(descriptor: Pick<Descriptor, 'digest'>, bytes: Uint8Array): Promise<void> {
    const { digest } = descriptor;
    if (!verifyContent(digest, bytes)) {
      throw new ImageError(
        'ERR_IMAGE_CONTENT',
        `content does not hash to ${digest} (${bytes.length} bytes): the registry sent something else`,
      );
    }
    const path = this.#path(digest);
    await mkdir(join(path, '..'), { recursive: true, mode: 0o700 });
    await writeWhole(path, [bytes]);
  }

  async delete(digest: Digest): Promise<void> {
    await rm(this.#path(digest), { force: true });
  }

  #path(digest: Digest): string {
    return join(this.#dir, digestAlgorithm(digest), digestHex(digest));
  }
}
