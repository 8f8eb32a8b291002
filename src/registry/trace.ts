import type { Readable } from 'node:stream';
import type { Descriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import { ForwardingRegistry } from './forwarding-registry.ts';
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
import { TracedCall } from './trace/traced-call.ts';
import type { TraceSink, TraceSubject } from './trace/traced-call.ts';

/**
 * Tells `sink` of every call when it ends: a read with its body, an upload in chunks when it is committed, closed or cancelled, a list with its
 * last item. An event has no content, no error's text and no upload's id. A list that nobody reads and a body that nobody reads or closes have not ended.
 */
export function trace(registry: Registry, sink: TraceSink): Registry {
  return new TracedRegistry(registry, sink);
}

class TracedRegistry extends ForwardingRegistry {
  readonly #sink: TraceSink;

  constructor(inner: Registry, sink: TraceSink) {
    super(inner);
    this.#sink = sink;
  }

  override getBlob(repository: string, digest: Digest, options?: CallOptions): Promise<BlobReader> {
    const call = this.#call('getBlob', { repository, digest }, options);
    return call.reader(() => super.getBlob(repository, digest, options));
  }

  override getBlobRange(
    repository: string,
    digest: Digest,
    start: number,
    end: number | undefined,
    options?: CallOptions,
  ): Promise<BlobReader> {
    const call = this.#call('getBlobRange', { repository, digest, range: { start, end } }, options);
    return call.reader(() => super.getBlobRange(repository, digest, start, end, options));
  }

  override getManifest(repository: string, digest: Digest, options?: CallOptions): Promise<ManifestContent> {
    const call = this.#call('getManifest', { repository, digest }, options);
    return call.manifest(() => super.getManifest(repository, digest, options));
  }

  override getTag(repository: string, tag: string, options?: CallOptions): Promise<ManifestContent> {
    const call = this.#call('getTag', { repository, tag }, options);
    return call.manifest(() => super.getTag(repository, tag, options));
  }

  override resolveBlob(repository: string, digest: Digest, options?: CallOptions): Promise<Descriptor> {
    const call = this.#call('resolveBlob', { repository, digest }, options);
    return call.whole(() => super.resolveBlob(repository, digest, options));
  }

  override resolveManifest(repository: string, digest: Digest, options?: CallOptions): Promise<Descriptor> {
    const call = this.#call('resolveManifest', { repository, digest }, options);
    return call.whole(() => super.resolveManifest(repository, digest, options));
  }

  override resolveTag(repository: string, tag: string, options?: CallOptions): Promise<Descriptor> {
    const call = this.#call('resolveTag', { repository, tag }, options);
    return call.whole(() => super.resolveTag(repository, tag, options), digestOf);
  }

  override pushBlob(
    repository: string,
    descriptor: Descriptor,
    body: () => Readable,
    options?: CallOptions,
  ): Promise<Descriptor> {
    const call = this.#call('pushBlob', { repository, digest: descriptor.digest }, options);
    call.add(0);
    return call.whole(() => super.pushBlob(repository, descriptor, () => call.counted(body()), options));
  }

  override pushBlobChunked(
    repository: string,
    chunkSize: number | undefined,
    options?: CallOptions,
  ): Promise<BlobWriter> {
    const call = this.#call('pushBlobChunked', { repository }, options);
    return call.writer(() => super.pushBlobChunked(repository, chunkSize, options));
  }

  override resumeBlob(
    repository: string,
    id: string,
    offset: number | undefined,
    options?: CallOptions,
  ): Promise<BlobWriter> {
    const call = this.#call('resumeBlob', { repository }, options);
    return call.writer(() => super.resumeBlob(repository, id, offset, options));
  }

  override mountBlob(
    fromRepository: string,
    toRepository: string,
    digest: Digest,
    options?: CallOptions,
  ): Promise<Descriptor> {
    const call = this.#call('mountBlob', { repository: toRepository, fromRepository, digest }, options);
    return call.whole(() => super.mountBlob(fromRepository, toRepository, digest, options));
  }

  override pushManifest(
    repository: string,
    tag: string | undefined,
    bytes: Uint8Array,
    mediaType: string,
    options?: PushManifestOptions,
  ): Promise<Descriptor> {
    const call = this.#call('pushManifest', { repository, tag, digest: options?.digest }, options);
    call.add(bytes.byteLength);
    return call.whole(() => super.pushManifest(repository, tag, bytes, mediaType, options), digestOf);
  }

  override deleteBlob(repository: string, digest: Digest, options?: CallOptions): Promise<void> {
    const call = this.#call('deleteBlob', { repository, digest }, options);
    return call.whole(() => super.deleteBlob(repository, digest, options));
  }

  override deleteManifest(repository: string, digest: Digest, options?: CallOptions): Promise<void> {
    const call = this.#call('deleteManifest', { repository, digest }, options);
    return call.whole(() => super.deleteManifest(repository, digest, options));
  }

  override deleteTag(repository: string, tag: string, options?: CallOptions): Promise<void> {
    const call = this.#call('deleteTag', { repository, tag }, options);
    return call.whole(() => super.deleteTag(repository, tag, options));
  }

  override async *repositories(options?: ListOptions): AsyncGenerator<string> {
    yield* this.#call('repositories', {}, options).list(super.repositories(options));
  }

  override async *tags(repository: string, options?: ListOptions): AsyncGenerator<string> {
    yield* this.#call('tags', { repository }, options).list(super.tags(repository, options));
  }

  override async *referrers(
    repository: string,
    digest: Digest,
    options?: ReferrersOptions,
  ): AsyncGenerator<Descriptor> {
    yield* this.#call('referrers', { repository, digest }, options).list(super.referrers(repository, digest, options));
  }

  #call(operation: keyof Registry, subject: TraceSubject, options: CallOptions | undefined): TracedCall {
    return new TracedCall(this.#sink, operation, subject, options);
  }
}

function digestOf({ digest }: Descriptor): TraceSubject {
  return { digest };
}
