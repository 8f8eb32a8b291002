import type { Descriptor } from '../../oci/descriptor.ts';
import type { Digest } from '../../oci/digest.ts';
import { OnceMap } from '../../util/once-map.ts';
import { RegistryError, hasCode } from '../errors.ts';
import type { CallOptions, ManifestContent, Registry } from '../interface.ts';
import { nameOfManifest } from '../manifest-check.ts';
import type { CacheStore } from './cache-store.ts';

export interface CachedManifestsOptions {
  readonly upstream: Registry;
  readonly cache: CacheStore;
  readonly tagTtlMs: number;
  readonly now: () => number;
  /** The last known content of a tag was given because upstream failed like this. */
  readonly onStale: (repository: string, tag: string, error: RegistryError) => void;
}

/** How long upstream is left alone about a tag after it was out of reach. */
const outageHoldMs = 10_000;
const maxRememberedTags = 10_000;

/** The manifests and tags of a cache. The store knows what a tag means, and this process how long that may be believed: after a restart not at all. */
export class CachedManifests {
  readonly #options: CachedManifestsOptions;
  readonly #fetching = new OnceMap<string, ManifestContent>();
  readonly #refreshing = new OnceMap<string, ManifestContent>();
  readonly #validUntil = new Map<string, number>();
  /** Counts writes, so that a refresh overtaken by one does not put the old content back. */
  #writes = 0;

  constructor(options: CachedManifestsOptions) {
    this.#options = options;
  }

  async get(repository: string, digest: Digest, options: CallOptions): Promise<ManifestContent> {
    const { signal } = options;
    signal?.throwIfAborted();
    const kept = await this.#options.cache.find((store) => store.getManifest(repository, digest, options), signal);
    if (kept !== undefined) return kept;
    const fetch = (any: AbortSignal) => this.#fetch(repository, digest, any);
    return await this.#fetching.run(`${repository}@${digest}`, fetch, options);
  }

  async resolve(repository: string, digest: Digest, options: CallOptions): Promise<Descriptor> {
    const { upstream, cache } = this.#options;
    const { signal } = options;
    signal?.throwIfAborted();
    const kept = await cache.find((store) => store.resolveManifest(repository, digest, options), signal);
    return kept ?? (await upstream.resolveManifest(repository, digest, options));
  }

  async tag(repository: string, tag: string, options: CallOptions): Promise<ManifestContent> {
    const { cache, now } = this.#options;
    const { signal } = options;
    signal?.throwIfAborted();
    if (now() < (this.#validUntil.get(keyOf(repository, tag)) ?? Number.NEGATIVE_INFINITY)) {
      const kept = await cache.find((store) => store.getTag(repository, tag, options), signal);
      if (kept !== undefined) return kept;
    }
    const refresh = (any: AbortSignal) => this.#refresh(repository, tag, any);
    return await this.#refreshing.run(keyOf(repository, tag), refresh, options);
  }

  /** After upstream took it. */
  async pushed(repository: string, tag: string | undefined, content: ManifestContent): Promise<void> {
    this.#writes += 1;
    if (await this.#keep(repository, tag, content)) this.#believe(repository, tag, this.#options.tagTtlMs);
    else await this.#forget(repository, tag);
  }

  async deleted(repository: string, digest: Digest): Promise<void> {
    this.#writes += 1;
    await this.#options.cache.follow((store) => store.deleteManifest(repository, digest));
  }

  async tagDeleted(repository: string, tag: string): Promise<void> {
    this.#writes += 1;
    await this.#forget(repository, tag);
  }

  async #fetch(repository: string, digest: Digest, signal: AbortSignal): Promise<ManifestContent> {
    const content = await this.#options.upstream.getManifest(repository, digest, { signal });
    nameOfManifest(content.bytes, digest);
    await this.#keep(repository, undefined, content);
    return content;
  }

  /** One HEAD when upstream has what is known. A digest that is new is fetched, so that it can be given when upstream is gone. */
  async #refresh(repository: string, tag: string, signal: AbortSignal): Promise<ManifestContent> {
    const { upstream, cache, tagTtlMs } = this.#options;
    const writes = this.#writes;
    try {
      const { digest } = await upstream.resolveTag(repository, tag, { signal });
      const content = await this.get(repository, digest, { signal });
      const known = await cache.find((store) => store.resolveTag(repository, tag, { signal }), signal);
      if (writes !== this.#writes) return content;
      if (known?.digest === digest || (await this.#keep(repository, tag, content)))
        this.#believe(repository, tag, tagTtlMs);
      return content;
    } catch (error) {
      signal.throwIfAborted();
      if (hasCode(error, 'MANIFEST_UNKNOWN', 'NAME_UNKNOWN') && writes === this.#writes)
        await this.#forget(repository, tag);
      const last = await this.#lastKnown(repository, tag, error, signal);
      if (last === undefined) throw error;
      return last;
    }
  }

  async #lastKnown(
    repository: string,
    tag: string,
    error: unknown,
    signal: AbortSignal,
  ): Promise<ManifestContent | undefined> {
    if (!(error instanceof RegistryError) || !error.retryable) return undefined;
    const { cache, tagTtlMs, onStale } = this.#options;
    const last = await cache.find((store) => store.getTag(repository, tag, { signal }), signal);
    if (last === undefined) return undefined;
    onStale(repository, tag, error);
    this.#believe(repository, tag, Math.min(tagTtlMs, outageHoldMs));
    return last;
  }

  async #keep(repository: string, tag: string | undefined, { descriptor, bytes }: ManifestContent): Promise<boolean> {
    const { mediaType, digest } = descriptor;
    return await this.#options.cache.keep((store) =>
      store.pushManifest(repository, tag, bytes, mediaType, { digest, allowMissing: true }),
    );
  }

  async #forget(repository: string, tag: string | undefined): Promise<void> {
    if (tag === undefined) return;
    this.#validUntil.delete(keyOf(repository, tag));
    await this.#options.cache.follow((store) => store.deleteTag(repository, tag));
  }

  #believe(repository: string, tag: string | undefined, forMs: number): void {
    if (tag === undefined) return;
    const key = keyOf(repository, tag);
    this.#validUntil.delete(key);
    this.#validUntil.set(key, this.#options.now() + forMs);
    const oldest = this.#validUntil.keys().next().value;
    if (this.#validUntil.size > maxRememberedTags && oldest !== undefined) this.#validUntil.delete(oldest);
  }
}

function keyOf(repository: string, tag: string): string {
  return `${repository}:${tag}`;
}
