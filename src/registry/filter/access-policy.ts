import type { Readable } from 'node:stream';
import type { Descriptor } from '../../oci/descriptor.ts';
import type { Digest } from '../../oci/digest.ts';
import { RegistryError, hasCode } from '../errors.ts';
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

/** `list` is tags, referrers and the catalog; uploads, mounts into a repository and manifests are `write`. */
export type AccessKind = 'read' | 'write' | 'delete' | 'list';

/** What the catalog of repositories is called towards a check. No repository can have this name. */
export const catalogName = '*';

/** True allows; anything else is DENIED. A RegistryError that it throws is what the call ends with instead. */
export type AccessCheck = (repository: string, kind: AccessKind, options: CallOptions) => boolean | Promise<boolean>;

/**
 * Asks `check` before anything else is done with a repository. Its name is known to be one by then. Mounting asks to read the source and to
 * write the target; the catalog has the name `*`, and leaves out what may not be read. An upload that was begun or resumed is not asked about again.
 */
export function accessPolicy(registry: Registry, check: AccessCheck): Registry {
  return new AccessPolicy(registry, check);
}

class AccessPolicy extends ForwardingRegistry {
  readonly #check: AccessCheck;

  constructor(inner: Registry, check: AccessCheck) {
    super(inner);
    this.#check = check;
  }

  override async getBlob(repository: string, digest: Digest, options?: CallOptions): Promise<BlobReader> {
    await this.#ask(repository, 'read', options);
    return await super.getBlob(repository, digest, options);
  }

  override async getBlobRange(
    repository: string,
    digest: Digest,
    start: number,
    end: number | undefined,
    options?: CallOptions,
  ): Promise<BlobReader> {
    await this.#ask(repository, 'read', options);
    return await super.getBlobRange(repository, digest, start, end, options);
  }

  override async getManifest(repository: string, digest: Digest, options?: CallOptions): Promise<ManifestContent> {
    await this.#ask(repository, 'read', options);
    return await super.getManifest(repository, digest, options);
  }

  override async getTag(repository: string, tag: string, options?: CallOptions): Promise<ManifestContent> {
    await this.#ask(repository, 'read', options);
    return await super.getTag(repository, tag, options);
  }

  override async resolveBlob(repository: string, digest: Digest, options?: CallOptions): Promise<Descriptor> {
    await this.#ask(repository, 'read', options);
    return await super.resolveBlob(repository, digest, options);
  }

  override async resolveManifest(repository: string, digest: Digest, options?: CallOptions): Promise<Descriptor> {
    await this.#ask(repository, 'read', options);
    return await super.resolveManifest(repository, digest, options);
  }

  override async resolveTag(repository: string, tag: string, options?: CallOptions): Promise<Descriptor> {
    await this.#ask(repository, 'read', options);
    return await super.resolveTag(repository, tag, options);
  }

  override async pushBlob(
    repository: string,
    descriptor: Descriptor,
    body: () => Readable,
    options?: CallOptions,
  ): Promise<Descriptor> {
    await this.#ask(repository, 'write', options);
    return await super.pushBlob(repository, descriptor, body, options);
  }

  override async pushBlobChunked(
    repository: string,
    chunkSize: number | undefined,
    options?: CallOptions,
  ): Promise<BlobWriter> {
    await this.#ask(repository, 'write', options);
    return await super.pushBlobChunked(repository, chunkSize, options);
  }

  override async resumeBlob(
    repository: string,
    id: string,
    offset: number | undefined,
    options?: CallOptions,
  ): Promise<BlobWriter> {
    await this.#ask(repository, 'write', options);
    return await super.resumeBlob(repository, id, offset, options);
  }

  override async mountBlob(
    fromRepository: string,
    toRepository: string,
    digest: Digest,
    options?: CallOptions,
  ): Promise<Descriptor> {
    await this.#ask(fromRepository, 'read', options);
    await this.#ask(toRepository, 'write', options);
    return await super.mountBlob(fromRepository, toRepository, digest, options);
  }

  override async pushManifest(
    repository: string,
    tag: string | undefined,
    bytes: Uint8Array,
    mediaType: string,
    options?: PushManifestOptions,
  ): Promise<Descriptor> {
    await this.#ask(repository, 'write', options);
    return await super.pushManifest(repository, tag, bytes, mediaType, options);
  }

  override async deleteBlob(repository: string, digest: Digest, options?: CallOptions): Promise<void> {
    await this.#ask(repository, 'delete', options);
    await super.deleteBlob(repository, digest, options);
  }

  override async deleteManifest(repository: string, digest: Digest, options?: CallOptions): Promise<void> {
    await this.#ask(repository, 'delete', options);
    await super.deleteManifest(repository, digest, options);
  }

  override async deleteTag(repository: string, tag: string, options?: CallOptions): Promise<void> {
    await this.#ask(repository, 'delete', options);
    await super.deleteTag(repository, tag, options);
  }

  override async *repositories(options?: ListOptions): AsyncGenerator<string> {
    await this.#judge(catalogName, 'list', options);
    for await (const repository of super.repositories(options)) {
      if (await this.#mayRead(repository, options)) yield repository;
    }
  }

  override async *tags(repository: string, options?: ListOptions): AsyncGenerator<string> {
    await this.#ask(repository, 'list', options);
    yield* super.tags(repository, options);
  }

  override async *referrers(
    repository: string,
    digest: Digest,
    options?: ReferrersOptions,
  ): AsyncGenerator<Descriptor> {
    await this.#ask(repository, 'list', options);
    yield* super.referrers(repository, digest, options);
  }

  async #ask(repository: string, kind: AccessKind, options?: CallOptions): Promise<void> {
    await this.#judge(checkRepository(repository), kind, options);
  }

  async #judge(name: string, kind: AccessKind, options: CallOptions = {}): Promise<void> {
    if (await this.#check(name, kind, { signal: options.signal })) return;
    const object = name === catalogName ? 'the list of repositories' : `repository ${name}`;
    throw new RegistryError('DENIED', `${kind} access to ${object} is denied`);
  }

  async #mayRead(repository: string, options?: CallOptions): Promise<boolean> {
    try {
      await this.#ask(repository, 'read', options);
      return true;
    } catch (error) {
      // A check that could not be made is not a refusal: a list must not be short because of it.
      if (hasCode(error, 'DENIED', 'UNAUTHORIZED', 'NAME_UNKNOWN', 'NAME_INVALID')) return false;
      throw error;
    }
  }
}
