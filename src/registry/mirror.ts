import type { Readable } from 'node:stream';
import type { Descriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import { checkRange } from './blob-range.ts';
import { RegistryError } from './errors.ts';
import { nameOfManifest } from './manifest-check.ts';
import { checkDigest, checkRepository, checkTag } from './names.ts';
import type {
  BlobReader,
  BlobWriter,
  CallOptions,
  ListOptions,
  ManifestContent,
  PushManifestOptions,
  ReferrersOptions,
  Registry,
} from './interface.ts';
import { begunList } from './streams/begun-list.ts';
import { openBlob, openContinued } from './mirror/continued-blob.ts';
import type { BlobRequest } from './mirror/continued-blob.ts';
import { EndpointHealth } from './mirror/endpoint-health.ts';
import { Fallback } from './mirror/fallback.ts';
import type { FallbackEvent, RankedEndpoint } from './mirror/fallback.ts';
import { WriteEndpoints } from './mirror/write-endpoints.ts';

/** As in containerd's hosts.toml. `pull`: blobs, and manifests by digest. `resolve`: tags and lists. `push`: writes and deletes. */
export type MirrorCapability = 'pull' | 'resolve' | 'push';

export interface MirrorEndpoint {
  /** For messages and events. */
  readonly name: string;
  readonly registry: Registry;
  readonly capabilities: ReadonlySet<MirrorCapability>;
}

export interface MirrorOptions {
  /** How long an endpoint that failed is left out, at first; default 5 s. It doubles with each failure up to `maxCooldownMs`, default 5 min. */
  readonly cooldownMs?: number | undefined;
  readonly maxCooldownMs?: number | undefined;
  /** A read goes on to the next endpoint. */
  readonly onFallback?: ((event: FallbackEvent) => void) | undefined;
  /** ms since some moment, never going back; replaced in tests. */
  readonly now?: (() => number) | undefined;
}

/**
 * Endpoints that have the same content as one registry, asked in this order; the last one is the origin. A read goes on to the next endpoint when
 * one is out of reach, refuses, lacks the content or has something else, also in the middle of a blob. A write goes to the first that is in reach.
 */
export function mirror(endpoints: readonly MirrorEndpoint[], options: MirrorOptions = {}): Registry {
  return new Mirror(endpoints, options);
}

class Mirror implements Registry {
  readonly #pull: readonly RankedEndpoint[];
  readonly #resolve: readonly RankedEndpoint[];
  readonly #push: WriteEndpoints;
  readonly #onFallback: (event: FallbackEvent) => void;

  constructor(endpoints: readonly MirrorEndpoint[], options: MirrorOptions) {
    const {
      cooldownMs = 5_000,
      maxCooldownMs = 300_000,
      now = () => performance.now(),
      onFallback = () => {},
    } = options;
    const ranked = endpoints.map(({ name, registry, capabilities }, rank) => ({
      name,
      registry,
      capabilities,
      rank,
      health: new EndpointHealth({ cooldownMs, maxCooldownMs, now }),
    }));
    this.#pull = ranked.filter(({ capabilities }) => capabilities.has('pull'));
    this.#resolve = ranked.filter(({ capabilities }) => capabilities.has('resolve'));
    this.#push = new WriteEndpoints(ranked.filter(({ capabilities }) => capabilities.has('push')));
    this.#onFallback = onFallback;
  }

  async getBlob(repository: string, digest: Digest, options: CallOptions = {}): Promise<BlobReader> {
    return await this.#blob('getBlob', { repository, digest, range: undefined }, options);
  }

  async getBlobRange(
    repository: string,
    digest: Digest,
    start: number,
    end: number | undefined,
    options: CallOptions = {},
  ): Promise<BlobReader> {
    return await this.#blob('getBlobRange', { repository, digest, range: { start, end } }, options);
  }

  async getManifest(repository: string, digest: Digest, options: CallOptions = {}): Promise<ManifestContent> {
    checkRepository(repository);
    checkDigest(digest);
    return await this.#read('getManifest', this.#pull, options, async (registry) => {
      const content = await registry.getManifest(repository, digest, options);
      nameOfManifest(content.bytes, digest);
      return content;
    });
  }

  async getTag(repository: string, tag: string, options: CallOptions = {}): Promise<ManifestContent> {
    checkRepository(repository);
    checkTag(tag);
    return await this.#read('getTag', this.#resolve, options, (registry) => registry.getTag(repository, tag, options));
  }

  async resolveBlob(repository: string, digest: Digest, options: CallOptions = {}): Promise<Descriptor> {
    checkRepository(repository);
    checkDigest(digest);
    const resolve = (registry: Registry) => registry.resolveBlob(repository, digest, options);
    return await this.#read('resolveBlob', this.#pull, options, resolve);
  }

  async resolveManifest(repository: string, digest: Digest, options: CallOptions = {}): Promise<Descriptor> {
    checkRepository(repository);
    checkDigest(digest);
    const resolve = (registry: Registry) => registry.resolveManifest(repository, digest, options);
    return await this.#read('resolveManifest', this.#pull, options, resolve);
  }

  async resolveTag(repository: string, tag: string, options: CallOptions = {}): Promise<Descriptor> {
    checkRepository(repository);
    checkTag(tag);
    const resolve = (registry: Registry) => registry.resolveTag(repository, tag, options);
    return await this.#read('resolveTag', this.#resolve, options, resolve);
  }

  repositories(options: ListOptions = {}): AsyncIterable<string> {
    return this.#list('repositories', options, (registry) => registry.repositories(options));
  }

  async *tags(repository: string, options: ListOptions = {}): AsyncGenerator<string> {
    checkRepository(repository);
    yield* this.#list('tags', options, (registry) => registry.tags(repository, options));
  }

  async *referrers(repository: string, digest: Digest, options: ReferrersOptions = {}): AsyncGenerator<Descriptor> {
    checkRepository(repository);
    checkDigest(digest);
    yield* this.#list('referrers', options, (registry) => registry.referrers(repository, digest, options));
  }

  async pushBlob(
    repository: string,
    descriptor: Descriptor,
    body: () => Readable,
    options: CallOptions = {},
  ): Promise<Descriptor> {
    return await this.#push.pushBlob(repository, descriptor, body, options);
  }

  async pushBlobChunked(
    repository: string,
    chunkSize: number | undefined,
    options: CallOptions = {},
  ): Promise<BlobWriter> {
    return await this.#push.pushBlobChunked(repository, chunkSize, options);
  }

  async resumeBlob(
    repository: string,
    id: string,
    offset: number | undefined,
    options: CallOptions = {},
  ): Promise<BlobWriter> {
    return await this.#push.resumeBlob(checkRepository(repository), id, offset, options);
  }

  async mountBlob(
    fromRepository: string,
    toRepository: string,
    digest: Digest,
    options: CallOptions = {},
  ): Promise<Descriptor> {
    const mount = (registry: Registry) => registry.mountBlob(fromRepository, toRepository, digest, options);
    return await this.#push.once('mountBlob', mount, options);
  }

  async pushManifest(
    repository: string,
    tag: string | undefined,
    bytes: Uint8Array,
    mediaType: string,
    options: PushManifestOptions = {},
  ): Promise<Descriptor> {
    const push = (registry: Registry) => registry.pushManifest(repository, tag, bytes, mediaType, options);
    return await this.#push.once('pushManifest', push, options);
  }

  async deleteBlob(repository: string, digest: Digest, options: CallOptions = {}): Promise<void> {
    await this.#push.once('deleteBlob', (registry) => registry.deleteBlob(repository, digest, options), options);
  }

  async deleteManifest(repository: string, digest: Digest, options: CallOptions = {}): Promise<void> {
    const remove = (registry: Registry) => registry.deleteManifest(repository, digest, options);
    await this.#push.once('deleteManifest', remove, options);
  }

  async deleteTag(repository: string, tag: string, options: CallOptions = {}): Promise<void> {
    await this.#push.once('deleteTag', (registry) => registry.deleteTag(repository, tag, options), options);
  }

  async #blob(operation: string, request: BlobRequest, options: CallOptions): Promise<BlobReader> {
    checkRepository(request.repository);
    checkDigest(request.digest);
    if (request.range !== undefined) checkRange(request.range, request.digest);
    const fallbackBy = (signal: AbortSignal | undefined) => this.#fallback(operation, this.#pull, signal);
    if (this.#pull.length > 1) return await openContinued(fallbackBy, request, options);
    // What one endpoint gives is verified by itself.
    return await fallbackBy(options.signal).next((registry) => openBlob(registry, request, undefined, options));
  }

  async #read<T>(
    operation: string,
    endpoints: readonly RankedEndpoint[],
    { signal }: CallOptions,
    work: (registry: Registry) => Promise<T>,
  ): Promise<T> {
    signal?.throwIfAborted();
    const fallback = this.#fallback(operation, endpoints, signal);
    const result = await fallback.next(work);
    fallback.succeeded();
    return result;
  }

  /**
   * Mirrors that do not keep lists answer with none, so an empty one counts only when nobody has more. A list that breaks after its first item
   * is not continued elsewhere: the order of referrers is each registry's own.
   */
  async *#list<T>(
    operation: string,
    { signal }: CallOptions,
    list: (registry: Registry) => AsyncIterable<T>,
  ): AsyncGenerator<T> {
    signal?.throwIfAborted();
    const fallback = this.#fallback(operation, this.#resolve, signal);
    let isEmpty = false;
    let found;
    try {
      found = await fallback.next(async (registry) => {
        const begun = await begunList(list(registry));
        if (!begun.isEmpty) return begun;
        isEmpty = true;
        throw new RegistryError('NAME_UNKNOWN', 'the list is empty');
      });
    } catch (error) {
      signal?.throwIfAborted();
      if (isEmpty) return;
      throw error;
    }
    fallback.succeeded();
    yield* found.items;
  }

  #fallback(operation: string, endpoints: readonly RankedEndpoint[], signal: AbortSignal | undefined): Fallback {
    return new Fallback({ operation, endpoints, signal, onFallback: this.#onFallback });
  }
}
