import type { Descriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import { RegistryError } from './errors.ts';
import { readOnly } from './filter/read-only.ts';
import { ForwardingRegistry } from './forwarding-registry.ts';
import { checkDigest, checkRepository, checkTag } from './names.ts';
import type {
  BlobReader,
  CallOptions,
  ListOptions,
  ManifestContent,
  PushManifestOptions,
  ReferrersOptions,
  Registry,
} from './interface.ts';
import { begunList } from './streams/begun-list.ts';
import { CacheStore } from './pull-through/cache-store.ts';
import type { StoreAction } from './pull-through/cache-store.ts';
import { CachedBlobs } from './pull-through/cached-blobs.ts';
import { CachedManifests } from './pull-through/cached-manifests.ts';

/** What was answered although something failed. */
export type PullThroughEvent =
  /** Upstream was out of reach: the last known content of a tag was given, or for a list what the store knows of it. */
  | {
      readonly kind: 'stale';
      /** `debian:12`, `tags of debian`. */
      readonly what: string;
      readonly error: RegistryError;
    }
  /** The store does not work: content is passed through and not kept. Told once until it works again. */
  | { readonly kind: 'store-failed'; readonly action: StoreAction; readonly error: unknown };

export interface PullThroughOptions {
  /** How long a tag is believed after upstream was asked; default 60 s. */
  readonly tagTtlMs?: number | undefined;
  /** `refuse` (the default): UNSUPPORTED. `upstream`: passed on; manifests and tags are kept at once, blobs when they are first read. */
  readonly writes?: 'refuse' | 'upstream' | undefined;
  /** Whether a download goes on when all who wanted the blob have left; default true. */
  readonly finishDownloads?: boolean | undefined;
  /** Memory per download for its readers when the store gives no upload back before it is complete; default 4 MiB. */
  readonly bufferBytes?: number | undefined;
  readonly onEvent?: ((event: PullThroughEvent) => void) | undefined;
  /** Milliseconds; replaced in tests. */
  readonly now?: (() => number) | undefined;
}

export interface PullThroughRegistry extends Registry {
  /**
   * Gives up the downloads under way, and begins none and keeps nothing any more. Resolves when nothing writes to the store, which may be later than
   * the readers have all of a blob. Idempotent.
   */
  close(): Promise<void>;
}

/**
 * Another registry with a cache: what is read is answered from `store`, else from `upstream` and then kept. Content is in the store only after
 * its digest was checked; who reads a blob that is still on its way there follows it. Without upstream the store still answers, tags with what was last known of them.
 */
export function pullThrough(
  upstream: Registry,
  store: Registry,
  options: PullThroughOptions = {},
): PullThroughRegistry {
  return new PullThrough(upstream, store, options);
}

class PullThrough extends ForwardingRegistry implements PullThroughRegistry {
  readonly #upstream: Registry;
  readonly #cache: CacheStore;
  readonly #manifests: CachedManifests;
  readonly #blobs: CachedBlobs;
  readonly #onEvent: (event: PullThroughEvent) => void;

  constructor(upstream: Registry, store: Registry, options: PullThroughOptions) {
    // Every read is answered here, so what is passed on are writes.
    super(options.writes === 'upstream' ? upstream : readOnly(upstream));
    const { onEvent = () => {} } = options;
    this.#onEvent = onEvent;
    this.#upstream = upstream;
    this.#cache = new CacheStore(store, (action, error) => onEvent({ kind: 'store-failed', action, error }));
    const cache = this.#cache;
    this.#manifests = new CachedManifests({
      upstream,
      cache,
      tagTtlMs: options.tagTtlMs ?? 60_000,
      now: options.now ?? Date.now,
      onStale: (repository, tag, error) => onEvent({ kind: 'stale', what: `${repository}:${tag}`, error }),
    });
    this.#blobs = new CachedBlobs({
      upstream,
      cache,
      bufferBytes: options.bufferBytes ?? 4 * 1024 * 1024,
      finishDownloads: options.finishDownloads ?? true,
    });
  }

  async close(): Promise<void> {
    this.#blobs.close();
    await this.#cache.close();
  }

  override async getBlob(repository: string, digest: Digest, options: CallOptions = {}): Promise<BlobReader> {
    return await this.#blobs.get(checkRepository(repository), checkDigest(digest), options);
  }

  override async getBlobRange(
    repository: string,
    digest: Digest,
    start: number,
    end: number | undefined,
    options: CallOptions = {},
  ): Promise<BlobReader> {
    return await this.#blobs.range(checkRepository(repository), checkDigest(digest), start, end, options);
  }

  override async getManifest(repository: string, digest: Digest, options: CallOptions = {}): Promise<ManifestContent> {
    return await this.#manifests.get(checkRepository(repository), checkDigest(digest), options);
  }

  override async getTag(repository: string, tag: string, options: CallOptions = {}): Promise<ManifestContent> {
    return await this.#manifests.tag(checkRepository(repository), checkTag(tag), options);
  }

  override async resolveBlob(repository: string, digest: Digest, options: CallOptions = {}): Promise<Descriptor> {
    return await this.#blobs.resolve(checkRepository(repository), checkDigest(digest), options);
  }

  override async resolveManifest(repository: string, digest: Digest, options: CallOptions = {}): Promise<Descriptor> {
    return await this.#manifests.resolve(checkRepository(repository), checkDigest(digest), options);
  }

  override async resolveTag(repository: string, tag: string, options: CallOptions = {}): Promise<Descriptor> {
    return (await this.getTag(repository, tag, options)).descriptor;
  }

  override repositories(options: ListOptions = {}): AsyncIterable<string> {
    return this.#list('repositories', (registry) => registry.repositories(options), options);
  }

  override async *tags(repository: string, options: ListOptions = {}): AsyncGenerator<string> {
    checkRepository(repository);
    yield* this.#list(`tags of ${repository}`, (registry) => registry.tags(repository, options), options);
  }

  override async *referrers(
    repository: string,
    digest: Digest,
    options: ReferrersOptions = {},
  ): AsyncGenerator<Descriptor> {
    checkRepository(repository);
    checkDigest(digest);
    const list = (registry: Registry) => registry.referrers(repository, digest, options);
    yield* this.#list(`referrers of ${repository}@${digest}`, list, options);
  }

  override async mountBlob(
    fromRepository: string,
    toRepository: string,
    digest: Digest,
    options: CallOptions = {},
  ): Promise<Descriptor> {
    const descriptor = await super.mountBlob(fromRepository, toRepository, digest, options);
    await this.#cache.follow((store) => store.mountBlob(fromRepository, toRepository, digest));
    return descriptor;
  }

  override async pushManifest(
    repository: string,
    tag: string | undefined,
    bytes: Uint8Array,
    mediaType: string,
    options: PushManifestOptions = {},
  ): Promise<Descriptor> {
    const descriptor = await super.pushManifest(repository, tag, bytes, mediaType, options);
    await this.#manifests.pushed(repository, tag, { descriptor, bytes });
    return descriptor;
  }

  override async deleteBlob(repository: string, digest: Digest, options: CallOptions = {}): Promise<void> {
    await super.deleteBlob(repository, digest, options);
    await this.#cache.follow((store) => store.deleteBlob(repository, digest));
  }

  override async deleteManifest(repository: string, digest: Digest, options: CallOptions = {}): Promise<void> {
    await super.deleteManifest(repository, digest, options);
    await this.#manifests.deleted(repository, digest);
  }

  override async deleteTag(repository: string, tag: string, options: CallOptions = {}): Promise<void> {
    await super.deleteTag(repository, tag, options);
    await this.#manifests.tagDeleted(repository, tag);
  }

  /** Upstream's, or the store's when upstream is out of reach and the store has any. */
  async *#list<T>(
    what: string,
    list: (registry: Registry) => AsyncIterable<T>,
    options: CallOptions,
  ): AsyncGenerator<T> {
    let found;
    try {
      found = await begunList(list(this.#upstream));
    } catch (error) {
      options.signal?.throwIfAborted();
      if (!(error instanceof RegistryError) || !error.retryable) throw error;
      found = await this.#cache.find((store) => begunList(list(store)), options.signal);
      // A store that has none of them does not know that there are none.
      if (found?.isEmpty !== false) throw error;
      this.#onEvent({ kind: 'stale', what, error });
    }
    yield* found.items;
  }
}
