// Several registries with the same content as one: asked in order, each for what it may be trusted with.
import type { Readable } from 'node:stream';
import type { Descriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import { BaseRegistry } from './base-registry.ts';
import { RegistryError } from './errors.ts';
import type { RegistryErrorCode } from './errors.ts';
import type {
  BlobReader,
  CallOptions,
  ManifestContent,
  PushManifestOptions,
  ReferrersOptions,
  Registry,
} from './interface.ts';

export interface MirrorEndpoint {
  readonly name: string;
  readonly registry: Registry;
  readonly capabilities: ReadonlySet<'pull' | 'resolve' | 'push'>;
}

export interface FallbackEvent {
  readonly name: string;
  readonly operation: string;
  readonly code: RegistryErrorCode;
  readonly error: unknown;
}

export interface MirrorOptions {
  readonly onFallback?: ((event: FallbackEvent) => void) | undefined;
}

export function mirror(endpoints: readonly MirrorEndpoint[], options: MirrorOptions = {}): Registry {
  return new Mirror(endpoints, options);
}

class Mirror extends BaseRegistry {
  readonly #endpoints: readonly MirrorEndpoint[];
  readonly #options: MirrorOptions;

  constructor(endpoints: readonly MirrorEndpoint[], options: MirrorOptions) {
    super();
    this.#endpoints = endpoints;
    this.#options = options;
  }

  override getBlob(repository: string, digest: Digest, options: CallOptions = {}): Promise<BlobReader> {
    return this.#first('pull', 'getBlob', options, (registry) => registry.getBlob(repository, digest, options));
  }

  override getBlobRange(
    repository: string,
    digest: Digest,
    start: number,
    end: number | undefined,
    options: CallOptions = {},
  ): Promise<BlobReader> {
    return this.#first('pull', 'getBlobRange', options, (registry) =>
      registry.getBlobRange(repository, digest, start, end, options),
    );
  }

  override getManifest(repository: string, digest: Digest, options: CallOptions = {}): Promise<ManifestContent> {
    return this.#first('pull', 'getManifest', options, (registry) => registry.getManifest(repository, digest, options));
  }

  override getTag(repository: string, tag: string, options: CallOptions = {}): Promise<ManifestContent> {
    return this.#first('resolve', 'getTag', options, (registry) => registry.getTag(repository, tag, options));
  }

  override resolveBlob(repository: string, digest: Digest, options: CallOptions = {}): Promise<Descriptor> {
    return this.#first('pull', 'resolveBlob', options, (registry) => registry.resolveBlob(repository, digest, options));
  }

  override resolveManifest(repository: string, digest: Digest, options: CallOptions = {}): Promise<Descriptor> {
    return this.#first('pull', 'resolveManifest', options, (registry) =>
      registry.resolveManifest(repository, digest, options),
    );
  }

  override resolveTag(repository: string, tag: string, options: CallOptions = {}): Promise<Descriptor> {
    return this.#first('resolve', 'resolveTag', options, (registry) => registry.resolveTag(repository, tag, options));
  }

  override pushBlob(
    repository: string,
    descriptor: Descriptor,
    body: () => Readable,
    options: CallOptions = {},
  ): Promise<Descriptor> {
    return this.#first('push', 'pushBlob', options, (registry) =>
      registry.pushBlob(repository, descriptor, body, options),
    );
  }

  override pushManifest(
    repository: string,
    tag: string | undefined,
    bytes: Uint8Array,
    mediaType: string,
    options: PushManifestOptions = {},
  ): Promise<Descriptor> {
    return this.#first('push', 'pushManifest', options, (registry) =>
      registry.pushManifest(repository, tag, bytes, mediaType, options),
    );
  }

  override async *referrers(
    repository: string,
    digest: Digest,
    options: ReferrersOptions = {},
  ): AsyncGenerator<Descriptor> {
    yield* await this.#first('resolve', 'referrers', options, async (registry) => {
      const found: Descriptor[] = [];
      for await (const item of registry.referrers(repository, digest, options)) found.push(item);
      return found;
    });
  }

  async #first<T>(
    capability: 'pull' | 'resolve' | 'push',
    operation: string,
    { signal }: CallOptions,
    work: (registry: Registry) => Promise<T>,
  ): Promise<T> {
    const able = this.#endpoints.filter(({ capabilities }) => capabilities.has(capability));
    for (const [i, { name, registry }] of able.entries()) {
      try {
        return await work(registry);
      } catch (error) {
        signal?.throwIfAborted();
        if (i === able.length - 1) throw error;
        const code = error instanceof RegistryError ? error.code : 'UNKNOWN';
        this.#options.onFallback?.({ name, operation, code, error });
      }
    }
    throw new RegistryError('UNSUPPORTED', `no endpoint is there for ${operation}`);
  }
}
