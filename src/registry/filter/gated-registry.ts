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
} from '../interface.ts';

/** `list` is tags, referrers and the catalog; uploads, mounts into a repository and manifests are `write`. */
export type AccessKind = 'read' | 'write' | 'delete' | 'list';

/**
 * A registry whose repositories pass a gate before anything else is done with them. Of the catalog, which is about none in particular, a
 * subclass decides by itself.
 */
export abstract class GatedRegistry extends ForwardingRegistry {
  /** The name of `repository` in the registry below. A mount asks for both of its repositories. Throws to refuse. */
  protected abstract pass(repository: string, kind: AccessKind, options?: CallOptions): string | Promise<string>;

  abstract override repositories(options?: ListOptions): AsyncIterable<string>;

  override async getBlob(repository: string, digest: Digest, options?: CallOptions): Promise<BlobReader> {
    const name = await this.pass(repository, 'read', options);
    return await super.getBlob(name, digest, options);
  }

  override async getBlobRange(
    repository: string,
    digest: Digest,
    start: number,
    end: number | undefined,
    options?: CallOptions,
  ): Promise<BlobReader> {
    const name = await this.pass(repository, 'read', options);
    return await super.getBlobRange(name, digest, start, end, options);
  }

  override async getManifest(repository: string, digest: Digest, options?: CallOptions): Promise<ManifestContent> {
    const name = await this.pass(repository, 'read', options);
    return await super.getManifest(name, digest, options);
  }

  override async getTag(repository: string, tag: string, options?: CallOptions): Promise<ManifestContent> {
    const name = await this.pass(repository, 'read', options);
    return await super.getTag(name, tag, options);
  }

  override async resolveBlob(repository: string, digest: Digest, options?: CallOptions): Promise<Descriptor> {
    const name = await this.pass(repository, 'read', options);
    return await super.resolveBlob(name, digest, options);
  }

  override async resolveManifest(repository: string, digest: Digest, options?: CallOptions): Promise<Descriptor> {
    const name = await this.pass(repository, 'read', options);
    return await super.resolveManifest(name, digest, options);
  }

  override async resolveTag(repository: string, tag: string, options?: CallOptions): Promise<Descriptor> {
    const name = await this.pass(repository, 'read', options);
    return await super.resolveTag(name, tag, options);
  }

  override async pushBlob(
    repository: string,
    descriptor: Descriptor,
    body: () => Readable,
    options?: CallOptions,
  ): Promise<Descriptor> {
    const name = await this.pass(repository, 'write', options);
    return await super.pushBlob(name, descriptor, body, options);
  }

  override async pushBlobChunked(
    repository: string,
    chunkSize: number | undefined,
    options?: CallOptions,
  ): Promise<BlobWriter> {
    const name = await this.pass(repository, 'write', options);
    return await super.pushBlobChunked(name, chunkSize, options);
  }

  override async resumeBlob(
    repository: string,
    id: string,
    offset: number | undefined,
    options?: CallOptions,
  ): Promise<BlobWriter> {
    const name = await this.pass(repository, 'write', options);
    return await super.resumeBlob(name, id, offset, options);
  }

  override async mountBlob(
    fromRepository: string,
    toRepository: string,
    digest: Digest,
    options?: CallOptions,
  ): Promise<Descriptor> {
    const from = await this.pass(fromRepository, 'read', options);
    const to = await this.pass(toRepository, 'write', options);
    return await super.mountBlob(from, to, digest, options);
  }

  override async pushManifest(
    repository: string,
    tag: string | undefined,
    bytes: Uint8Array,
    mediaType: string,
    options?: PushManifestOptions,
  ): Promise<Descriptor> {
    const name = await this.pass(repository, 'write', options);
    return await super.pushManifest(name, tag, bytes, mediaType, options);
  }

  override async deleteBlob(repository: string, digest: Digest, options?: CallOptions): Promise<void> {
    const name = await this.pass(repository, 'delete', options);
    await super.deleteBlob(name, digest, options);
  }

  override async deleteManifest(repository: string, digest: Digest, options?: CallOptions): Promise<void> {
    const name = await this.pass(repository, 'delete', options);
    await super.deleteManifest(name, digest, options);
  }

  override async deleteTag(repository: string, tag: string, options?: CallOptions): Promise<void> {
    const name = await this.pass(repository, 'delete', options);
    await super.deleteTag(name, tag, options);
  }

  override async *tags(repository: string, options?: ListOptions): AsyncGenerator<string> {
    const name = await this.pass(repository, 'list', options);
    yield* super.tags(name, options);
  }

  override async *referrers(
    repository: string,
    digest: Digest,
    options?: ReferrersOptions,
  ): AsyncGenerator<Descriptor> {
    const name = await this.pass(repository, 'list', options);
    yield* super.referrers(name, digest, options);
  }
}
