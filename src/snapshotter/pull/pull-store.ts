import type { Descriptor } from '../../oci/descriptor.ts';
import type { Digest } from '../../oci/digest.ts';
import { maxContentBytes, verifyContent } from '../../image/content-store.ts';
import type { MediaTypes, SmallStore } from '../../image/content.ts';
import { ImageError } from '../../image/errors.ts';
import type { ContentService } from '../containerd/content.ts';

/**
 * Manifests and configs of one pull. What containerd has already is read there; what is new is held here until all of it is known to be an
 * image.
 */
export class PullStore implements SmallStore, MediaTypes {
  readonly #content: ContentService;
  readonly #signal: AbortSignal | undefined;
  readonly #bytes = new Map<Digest, Uint8Array>();
  readonly #mediaTypes = new Map<Digest, string>();

  constructor(content: ContentService, signal: AbortSignal | undefined) {
    this.#content = content;
    this.#signal = signal;
  }

  async get(digest: Digest): Promise<Uint8Array | undefined> {
    const held = this.#bytes.get(digest);
    if (held !== undefined) return held;
    const found = await this.#content.read(digest, maxContentBytes, { signal: this.#signal });
    if (found === undefined || !verifyContent(digest, found)) return undefined;
    this.#bytes.set(digest, found);
    return found;
  }

  /** Errors: ERR_IMAGE_CONTENT when the bytes do not hash to the digest. */
  async put({ digest }: Pick<Descriptor, 'digest'>, bytes: Uint8Array): Promise<void> {
    if (!verifyContent(digest, bytes))
      throw new ImageError('ERR_IMAGE_CONTENT', `content does not hash to ${digest}: the registry sent something else`);
    this.#bytes.set(digest, bytes);
  }

  mediaType(digest: Digest): string | undefined {
    return this.#mediaTypes.get(digest);
  }

  putContent({ digest, mediaType }: Descriptor): void {
    this.#mediaTypes.set(digest, mediaType);
  }
}
