// Referrers (distribution spec, "Listing Referrers"): the API where there is one, else the list under the fallback tag, which
// those who push keep up to date themselves.
import type { Descriptor } from '../../oci/descriptor.ts';
import type { Digest } from '../../oci/digest.ts';
import { OciError } from '../../oci/errors.ts';
import { maxManifestBytes, parseImageIndex } from '../../oci/manifest.ts';
import type { ImageIndex } from '../../oci/manifest.ts';
import { baseMediaType, mediaTypes } from '../../oci/media-type.ts';
import { Semaphore } from '../../util/semaphore.ts';
import { Scope } from '../auth/scope.ts';
import { RegistryError, hasCode } from '../errors.ts';
import type { CallOptions, ReferrersOptions } from '../interface.ts';
import { referrersTag } from '../referrers-tag.ts';
import { nextPage } from './link.ts';
import type { ManifestCalls } from './manifests.ts';
import type { RegistryClient } from './registry-client.ts';

const maxPages = 1_000;
/** All pages together. */
const maxListBytes = 64 * 1024 * 1024;

export class ReferrerCalls {
  readonly #client: RegistryClient;
  readonly #manifests: ManifestCalls;
  /** The list under the tag is read, changed and written back: one at a time, or two pushes of this process lose one another. */
  readonly #updates = new Semaphore(1);

  constructor(client: RegistryClient, manifests: ManifestCalls) {
    this.#client = client;
    this.#manifests = manifests;
  }

  async *list(repository: string, subject: Digest, options: ReferrersOptions = {}): AsyncGenerator<Descriptor> {
    const { artifactType } = options;
    const seen = new Set<Digest>();
    let found = false;
    for await (const page of this.#pages(repository, subject, options)) {
      found = true;
      for (const descriptor of page) {
        // Whether or not the registry says that it filtered, only what was asked for comes out.
        if (seen.has(descriptor.digest) || (artifactType !== undefined && descriptor.artifactType !== artifactType))
          continue;
        seen.add(descriptor.digest);
        yield descriptor;
      }
    }
    if (found) return;
    const fallback = await this.#fallbackIndex(repository, subject, options);
    yield* (fallback?.manifests ?? []).filter(
      (item) => artifactType === undefined || item.artifactType === artifactType,
    );
  }

  /** After a push that the registry did not acknowledge with OCI-Subject. Errors: MANIFEST_INVALID when the tag holds something else. */
  async addToFallback(
    repository: string,
    subject: Digest,
    referrer: Descriptor,
    options: CallOptions = {},
  ): Promise<void> {
    await this.#change(repository, subject, options, (items) =>
      items.some(({ digest }) => digest === referrer.digest) ? undefined : [...items, referrer],
    );
  }

  /** After a deletion; does nothing where the registry keeps the list itself. */
  async removeFromFallback(
    repository: string,
    subject: Digest,
    digest: Digest,
    options: CallOptions = {},
  ): Promise<void> {
    await this.#change(repository, subject, options, (items) => {
      const left = items.filter((item) => item.digest !== digest);
      return left.length === items.length ? undefined : left;
    });
  }

  /** No page at all when the registry has no referrers API. */
  async *#pages(repository: string, subject: Digest, options: ReferrersOptions): AsyncGenerator<readonly Descriptor[]> {
    const { signal, artifactType } = options;
    const what = `referrers of ${repository}@${subject}`;
    let url: URL | undefined = this.#client.url(`/v2/${repository}/referrers/${subject}`, { artifactType });
    let size = 0;
    const visited = new Set<string>();
    // A page that links to one before it has nothing new to say. An empty page may: its entries were filtered out.
    for (let pages = 0; url !== undefined && !visited.has(url.href); pages += 1) {
      if (pages === maxPages || size > maxListBytes)
        throw new RegistryError(
          'TOO_LARGE',
          `${what} at ${this.#client.options.host}: no end after ${pages} pages of ${size} bytes`,
        );
      visited.add(url.href);
      const accept = pages === 0 ? [200, 400, 404, 405] : [200];
      const { response, bytes } = await this.#client.sendAndCollect(
        {
          method: 'GET',
          url,
          what,
          subject: 'other',
          scope: Scope.repository(repository, 'pull'),
          headers: { accept: mediaTypes.imageIndex },
          accept,
          signal,
        },
        maxManifestBytes,
      );
      const type = baseMediaType(response.header('content-type') ?? '');
      // A proxy's web page is no list either.
      if (response.status !== 200 || (pages === 0 && type !== mediaTypes.imageIndex && type !== 'application/json'))
        return;
      size += bytes.byteLength;
      yield this.#parse(bytes, what).manifests;
      url = nextPage(response);
    }
  }

  #parse(bytes: Uint8Array, what: string): ImageIndex {
    try {
      return parseImageIndex(bytes, mediaTypes.imageIndex);
    } catch (error) {
      if (!(error instanceof OciError)) throw error;
      throw new RegistryError('RESPONSE_INVALID', `${what} at ${this.#client.options.host}: ${error.message}`, {
        cause: error,
      });
    }
  }

  /** Undefined when the tag is not there or holds no list ("no valid index there means no referrers"). */
  async #fallbackIndex(repository: string, subject: Digest, options: CallOptions): Promise<ImageIndex | undefined> {
    try {
      const { bytes, descriptor } = await this.#manifests.get(repository, referrersTag(subject), {
        signal: options.signal,
      });
      return parseImageIndex(bytes, descriptor.mediaType);
    } catch (error) {
      if (hasCode(error, 'MANIFEST_UNKNOWN', 'NAME_UNKNOWN') || error instanceof OciError) return undefined;
      throw error;
    }
  }

  async #change(
    repository: string,
    subject: Digest,
    options: CallOptions,
    change: (items: readonly Descriptor[]) => readonly Descriptor[] | undefined,
  ): Promise<void> {
    await this.#updates.run(async () => {
      const tag = referrersTag(subject);
      const items = await this.#currentItems(repository, tag, options);
      const manifests = change(items);
      if (manifests === undefined) return;
      const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: mediaTypes.imageIndex, manifests }));
      await this.#manifests.put(repository, tag, bytes, mediaTypes.imageIndex, options);
    }, options);
  }

  /** Other than for reading, a tag that holds something else is not overwritten. */
  async #currentItems(repository: string, tag: string, options: CallOptions): Promise<readonly Descriptor[]> {
    try {
      const { bytes, descriptor } = await this.#manifests.get(repository, tag, options);
      return parseImageIndex(bytes, descriptor.mediaType).manifests;
    } catch (error) {
      if (hasCode(error, 'MANIFEST_UNKNOWN', 'NAME_UNKNOWN')) return [];
      if (!(error instanceof OciError)) throw error;
      throw new RegistryError(
        'MANIFEST_INVALID',
        `tag ${repository}:${tag} at ${this.#client.options.host} holds no list of referrers`,
        { cause: error },
      );
    }
  }
}
