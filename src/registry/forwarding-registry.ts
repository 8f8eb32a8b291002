import type { Readable } from 'node:stream';
import type { Descriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
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

/** A registry that passes every call on to another one. What is put around a registry overrides what it changes. */
export class ForwardingRegistry implements Registry {
  protected readonly inner: Registry;

  constructor(inner: Registry) {
    this.inner = inner;
  }

  getBlob(repository: string, digest: Digest, options?: CallOptions): Promise<BlobReader> {
    return this.inner.getBlob(repository, digest, options);
  }

  getBlobRange(
    repository: string,
    digest: Digest,
    start: number,
    end: number | undefined,
    options?: CallOptions,
  ): Promise<BlobReader> {
    return this.inner.getBlobRange(repository, digest, start, end, options);
  }

  getManifest(repository: string, digest: Digest, options?: CallOptions): Promise<ManifestContent> {
    return this.inner.getManifest(repository, digest, options);
  }

  getTag(repository: string, tag: string, options?: CallOptions): Promise<ManifestContent> {
    return this.inner.getTag(repository, tag, options);
  }

  resolveBlob(repository: string, digest: Digest, options?: CallOptions): Promise<Descriptor> {
    return this.inner.resolveBlob(repository, digest, options);
  }

  resolveManifest(repository: string, digest: Digest, options?: CallOptions): Promise<Descriptor> {
    return this.inner.resolveManifest(repository, digest, options);
  }

  resolveTag(repository: string, tag: string, options?: CallOptions): Promise<Descriptor> {
    return this.inner.resolveTag(repository, tag, options);
  }

  pushBlob(
    repository: string,
    descriptor: Descriptor,
    body: () => Readable,
    options?: CallOptions,
  ): Promise<Descriptor> {
    return this.inner.pushBlob(repository, descriptor, body, options);
  }

  pushBlobChunked(repository: string, chunkSize: number | undefined, options?: CallOptions): Promise<BlobWriter> {
    return this.inner.pushBlobChunked(repository, chunkSize, options);
  }

  resumeBlob(repository: string, id: string, offset: number | undefined, options?: CallOptions): Promise<BlobWriter> {
    return this.inner.resumeBlob(repository, id, offset, options);
  }

  mountBlob(fromRepository: string, toRepository: string, digest: Digest, options?: CallOptions): Promise<Descriptor> {
    return this.inner.mountBlob(fromRepository, toRepository, digest, options);
  }

  pushManifest(
    repository: string,
    tag: string | undefined,
    bytes: Uint8Array,
    mediaType: string,
    options?: PushManifestOptions,
  ): Promise<Descriptor> {
    return this.inner.pushManifest(repository, tag, bytes, mediaType, options);
  }

  deleteBlob(repository: string, digest: Digest, options?: CallOptions): Promise<void> {
    return this.inner.deleteBlob(repository, digest, options);
  }

  deleteManifest(repository: string, digest: Digest, options?: CallOptions): Promise<void> {
    return this.inner.deleteManifest(repository, digest, options);
  }

  deleteTag(repository: string, tag: string, options?: CallOptions): Promise<void> {
    return this.inner.deleteTag(repository, tag, options);
  }

  repositories(options?: ListOptions): AsyncIterable<string> {
    return this.inner.repositories(options);
  }

  tags(repository: string, options?: ListOptions): AsyncIterable<string> {
    return this.inner.tags(repository, options);
  }

  referrers(repository: string, digest: Digest, options?: ReferrersOptions): AsyncIterable<Descriptor> {
    return this.inner.referrers(repository, digest, options);
  }
}
