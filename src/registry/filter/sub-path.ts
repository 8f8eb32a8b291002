import type { Readable } from 'node:stream';
import type { Descriptor } from '../../oci/descriptor.ts';
import type { Digest } from '../../oci/digest.ts';
import { ForwardingRegistry } from '../forwarding-registry.ts';
import type {
  BlobReader,
  BlobWriter,
  CallOptions,
  ListOptions,
  ManifestContent,
  PushManifestOptions,
  ReferrersOptions,
  Registry,
} from '../interface.ts';
import { checkRepository } from '../names.ts';

/**
 * The repositories below `prefix`, under their names without it: `team/app` is `app` in the view of `team`. The repository `team` itself is
 * not in it. Errors: NAME_INVALID at once when the prefix is no name.
 */
export function subPath(registry: Registry, prefix: string): Registry {
  return new SubPath(registry, `${checkRepository(prefix)}/`);
}

class SubPath extends ForwardingRegistry {
  readonly #prefix: string;

  constructor(inner: Registry, prefix: string) {
    super(inner);
    this.#prefix = prefix;
  }

  override async getBlob(repository: string, digest: Digest, options?: CallOptions): Promise<BlobReader> {
    return await super.getBlob(this.#full(repository), digest, options);
  }

  override async getBlobRange(
    repository: string,
    digest: Digest,
    start: number,
    end: number | undefined,
    options?: CallOptions,
  ): Promise<BlobReader> {
    return await super.getBlobRange(this.#full(repository), digest, start, end, options);
  }

  override async getManifest(repository: string, digest: Digest, options?: CallOptions): Promise<ManifestContent> {
    return await super.getManifest(this.#full(repository), digest, options);
  }

  override async getTag(repository: string, tag: string, options?: CallOptions): Promise<ManifestContent> {
    return await super.getTag(this.#full(repository), tag, options);
  }

  override async resolveBlob(repository: string, digest: Digest, options?: CallOptions): Promise<Descriptor> {
    return await super.resolveBlob(this.#full(repository), digest, options);
  }

  override async resolveManifest(repository: string, digest: Digest, options?: CallOptions): Promise<Descriptor> {
    return await super.resolveManifest(this.#full(repository), digest, options);
  }

  override async resolveTag(repository: string, tag: string, options?: CallOptions): Promise<Descriptor> {
    return await super.resolveTag(this.#full(repository), tag, options);
  }

  override async pushBlob(
    repository: string,
    descriptor: Descriptor,
    body: () => Readable,
    options?: CallOptions,
  ): Promise<Descriptor> {
    return await super.pushBlob(this.#full(repository), descriptor, body, options);
  }

  override async pushBlobChunked(
    repository: string,
    chunkSize: number | undefined,
    options?: CallOptions,
  ): Promise<BlobWriter> {
    return await super.pushBlobChunked(this.#full(repository), chunkSize, options);
  }

  override async resumeBlob(
    repository: string,
    id: string,
    offset: number | undefined,
    options?: CallOptions,
  ): Promise<BlobWriter> {
    return await super.resumeBlob(this.#full(repository), id, offset, options);
  }

  override async mountBlob(
    fromRepository: string,
    toRepository: string,
    digest: Digest,
    options?: CallOptions,
  ): Promise<Descriptor> {
    return await super.mountBlob(this.#full(fromRepository), this.#full(toRepository), digest, options);
  }

  override async pushManifest(
    repository: string,
    tag: string | undefined,
    bytes: Uint8Array,
    mediaType: string,
    options?: PushManifestOptions,
  ): Promise<Descriptor> {
    return await super.pushManifest(this.#full(repository), tag, bytes, mediaType, options);
  }

  override async deleteBlob(repository: string, digest: Digest, options?: CallOptions): Promise<void> {
    await super.deleteBlob(this.#full(repository), digest, options);
  }

  override async deleteManifest(repository: string, digest: Digest, options?: CallOptions): Promise<void> {
    await super.deleteManifest(this.#full(repository), digest, options);
  }

  override async deleteTag(repository: string, tag: string, options?: CallOptions): Promise<void> {
    await super.deleteTag(this.#full(repository), tag, options);
  }

  override async *repositories(options: ListOptions = {}): AsyncGenerator<string> {
    // Names below the prefix sort after the prefix with its slash, and before any other name that does.
    const startAfter = this.#prefix + (options.startAfter ?? '');
    for await (const name of super.repositories({ ...options, startAfter })) {
      if (name.startsWith(this.#prefix)) yield name.slice(this.#prefix.length);
      else if (name > this.#prefix) return;
    }
  }

  override async *tags(repository: string, options?: ListOptions): AsyncGenerator<string> {
    yield* super.tags(this.#full(repository), options);
  }

  override async *referrers(
    repository: string,
    digest: Digest,
    options?: ReferrersOptions,
  ): AsyncGenerator<Descriptor> {
    yield* super.referrers(this.#full(repository), digest, options);
  }

  /** Checked before it is joined, so that `..` is no way out whatever the registry below does with it. Errors: NAME_INVALID. */
  #full(repository: string): string {
    return this.#prefix + checkRepository(repository);
  }
}
