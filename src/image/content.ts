import type { Descriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import type { BlobReader } from '../registry/registry.ts';
import type { ImageTable } from '../state/images.ts';
import type { ContentStore } from './content-store.ts';
import { maxContentBytes } from './content-store.ts';
import { ImageError } from './errors.ts';
import type { Origin } from './origin.ts';

export interface Content {
  readonly descriptor: Descriptor;
  readonly bytes: Uint8Array;
}

export type SmallStore = Pick<ContentStore, 'get' | 'put'>;
export type MediaTypes = Pick<ImageTable, 'mediaType' | 'putContent'>;

interface FetchOptions {
  readonly signal?: AbortSignal | undefined;
}

/** Small content by digest: from the node where it is, else from the origin, verified and kept. */
export class ContentFetcher {
  readonly #store: SmallStore;
  readonly #images: MediaTypes;

  constructor(store: SmallStore, images: MediaTypes) {
    this.#store = store;
    this.#images = images;
  }

  /** Undefined when the node has not got it. */
  async local(digest: Digest): Promise<Content | undefined> {
    const bytes = await this.#store.get(digest);
    if (bytes === undefined) return undefined;
    return { descriptor: { mediaType: this.#images.mediaType(digest) ?? '', digest, size: bytes.length }, bytes };
  }

  /** Errors: RegistryError; ERR_IMAGE_CONTENT when the bytes are not those of `digest`. */
  async manifest(origin: Origin, digest: Digest, options?: FetchOptions): Promise<Content> {
    return (
      (await this.local(digest)) ??
      (await this.keep(await origin.registry.getManifest(origin.repository, digest, options)))
    );
  }

  /** Errors: as `manifest`. */
  async blob(origin: Origin, descriptor: Descriptor, options?: FetchOptions): Promise<Content> {
    const local = await this.local(descriptor.digest);
    if (local !== undefined) return local;
    const bytes = await readSmallBlob(origin, descriptor, maxContentBytes, options);
    return await this.keep({ descriptor, bytes });
  }

  /** Errors: ERR_IMAGE_CONTENT when the bytes are not those of the descriptor's digest. */
  async keep(content: Content): Promise<Content> {
    await this.#store.put(content.descriptor, content.bytes);
    this.#images.putContent({ ...content.descriptor, size: content.bytes.length });
    return content;
  }
}

/** A whole blob of at most `limit` bytes. Errors: RegistryError; ERR_IMAGE_CONTENT when it is larger. */
export async function readSmallBlob(
  origin: Origin,
  descriptor: Descriptor,
  limit: number,
  options?: FetchOptions,
): Promise<Uint8Array> {
  if (descriptor.size > limit) {
    throw new ImageError(
      'ERR_IMAGE_CONTENT',
      `${origin.name}@${descriptor.digest} has ${descriptor.size} bytes, more than the ${limit} allowed`,
    );
  }
  const reader: BlobReader = await origin.registry.getBlob(origin.repository, descriptor.digest, options);
  try {
    const chunks: Uint8Array[] = [];
    let size = 0;
    for await (const chunk of reader.body as AsyncIterable<Uint8Array>) {
      size += chunk.length;
      if (size > limit)
        throw new ImageError(
          'ERR_IMAGE_CONTENT',
          `${origin.name}@${descriptor.digest} is larger than the ${limit} bytes allowed`,
        );
      chunks.push(chunk);
    }
    return chunks.length === 1 && chunks[0] !== undefined ? chunks[0] : Buffer.concat(chunks, size);
  } finally {
    reader.close();
  }
}
