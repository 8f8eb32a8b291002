// The endpoints of a mirror that take writes. Once something was sent to one of them, the write stays there, whatever comes of it.
import type { Readable } from 'node:stream';
import type { Descriptor } from '../../oci/descriptor.ts';
import { RegistryError } from '../errors.ts';
import type { BlobWriter, CallOptions, Registry } from '../interface.ts';
import { uploadUnknown } from '../not-found.ts';
import { inOrderOfHealth } from './fallback.ts';
import type { RankedEndpoint } from './fallback.ts';

export class WriteEndpoints {
  readonly #endpoints: readonly RankedEndpoint[];

  constructor(endpoints: readonly RankedEndpoint[]) {
    this.#endpoints = endpoints;
  }

  /** For a write that is one request: nobody knows whether one that failed was received. */
  async once<T>(operation: string, work: (registry: Registry) => Promise<T>, options: CallOptions): Promise<T> {
    return await this.#first(
      operation,
      ({ registry }) => work(registry),
      options,
      () => true,
    );
  }

  async pushBlob(
    repository: string,
    descriptor: Descriptor,
    body: () => Readable,
    options: CallOptions,
  ): Promise<Descriptor> {
    let sent = false;
    const source = () => {
      sent = true;
      return body();
    };
    const push = ({ registry }: RankedEndpoint) => registry.pushBlob(repository, descriptor, source, options);
    return await this.#first('pushBlob', push, options, () => sent);
  }

  async pushBlobChunked(repository: string, chunkSize: number | undefined, options: CallOptions): Promise<BlobWriter> {
    const start = async (endpoint: RankedEndpoint) =>
      bound(await endpoint.registry.pushBlobChunked(repository, chunkSize, options), endpoint);
    return await this.#first('pushBlobChunked', start, options, () => false);
  }

  /** At the endpoint where the upload was begun. */
  async resumeBlob(
    repository: string,
    id: string,
    offset: number | undefined,
    options: CallOptions,
  ): Promise<BlobWriter> {
    const [, rank, inner] = /^(\d{1,4})\.(.+)$/s.exec(id) ?? [];
    const endpoint = this.#endpoints.find((candidate) => String(candidate.rank) === rank);
    if (endpoint === undefined || inner === undefined) throw uploadUnknown(repository, id);
    return bound(await endpoint.registry.resumeBlob(repository, inner, offset, options), endpoint);
  }

  async #first<T>(
    operation: string,
    work: (endpoint: RankedEndpoint) => Promise<T>,
    { signal }: CallOptions,
    sent: () => boolean,
  ): Promise<T> {
    signal?.throwIfAborted();
    let failure: unknown = new RegistryError('UNSUPPORTED', `no endpoint is there for ${operation}`);
    for (const endpoint of inOrderOfHealth(this.#endpoints)) {
      try {
        const result = await work(endpoint);
        endpoint.health.succeeded();
        return result;
      } catch (error) {
        signal?.throwIfAborted();
        if (!(error instanceof RegistryError) || !error.retryable) throw error;
        endpoint.health.failed(error.retryAfterMs);
        if (sent()) throw error;
        failure = error;
      }
    }
    throw failure;
  }
}

/** Its id names the endpoint too. */
function bound(writer: BlobWriter, endpoint: RankedEndpoint): BlobWriter {
  return {
    id: `${endpoint.rank}.${writer.id}`,
    chunkSize: writer.chunkSize,
    get size() {
      return writer.size;
    },
    write: (chunk, options) => writer.write(chunk, options),
    close: () => writer.close(),
    commit: (digest, options) => writer.commit(digest, options),
    cancel: () => writer.cancel(),
  };
}
