// Pulling blobs (distribution spec, "Pulling blobs").
import type { Descriptor } from '../../oci/descriptor.ts';
import type { Digest } from '../../oci/digest.ts';
import { mediaTypes } from '../../oci/media-type.ts';
import { Scope } from '../auth/scope.ts';
import { RegistryError, hasCode } from '../errors.ts';
import type { BlobReader, CallOptions } from '../interface.ts';
import { BlobTransfer } from './blob-transfer.ts';
import type { HttpResponse } from './http.ts';
import { PulledStream } from '../streams/pulled-stream.ts';
import { discard } from './registry-client.ts';
import type { ClientRequest, RegistryClient } from './registry-client.ts';

const maxRememberedTargets = 4_096;

export class BlobCalls {
  readonly #client: RegistryClient;
  /** Where the registry sent us for a blob. Signed URLs expire: the first refusal forgets it and asks the registry again. */
  readonly #targets = new Map<string, URL>();

  constructor(client: RegistryClient) {
    this.#client = client;
  }

  async resolve(repository: string, digest: Digest, options: CallOptions = {}): Promise<Descriptor> {
    const response = await this.#client.send({
      ...this.#request(repository, digest),
      method: 'HEAD',
      accept: [200],
      ...options,
    });
    discard(response);
    const size = Number(response.header('content-length') ?? Number.NaN);
    if (!Number.isSafeInteger(size))
      throw new RegistryError(
        'RESPONSE_INVALID',
        `blob ${digest}: ${this.#client.options.host} does not tell its size`,
      );
    return { mediaType: mediaTypes.octetStream, digest, size };
  }

  async delete(repository: string, digest: Digest, options: CallOptions = {}): Promise<void> {
    const request = { ...this.#request(repository, digest), scope: Scope.repository(repository, 'pull', 'delete') };
    await this.#client.delete({ ...request, ...options });
  }

  async open(
    repository: string,
    digest: Digest,
    range: { readonly start: number; readonly end: number | undefined; readonly verify: boolean },
    options: CallOptions = {},
  ): Promise<BlobReader> {
    const transfer = await BlobTransfer.begin(
      this.#client,
      {
        digest,
        what: `blob ${digest} of ${repository} at ${this.#client.options.host}`,
        ...range,
        get: (headers, signal) => this.#get(repository, digest, headers, { ...options, signal }),
        size: async (signal) => (await this.resolve(repository, digest, { ...options, signal })).size,
      },
      options.signal,
    );
    const body = new PulledStream(transfer.chunks(), () => transfer.close());
    const descriptor = { mediaType: mediaTypes.octetStream, digest, size: transfer.total };
    return { descriptor, body, close: () => void body.on('error', () => {}).destroy() };
  }

  async #get(
    repository: string,
    digest: Digest,
    headers: Record<string, string>,
    { signal, whenAway }: CallOptions & { readonly signal: AbortSignal },
  ): Promise<HttpResponse> {
    const key = `${repository}@${digest}`;
    const request: ClientRequest = {
      ...this.#request(repository, digest),
      method: 'GET',
      headers,
      accept: [200, 206],
      signal,
      whenAway,
    };
    const target = this.#targets.get(key);
    if (target !== undefined) {
      try {
        return await this.#client.send({ ...request, url: target, attempts: 'once' });
      } catch (error) {
        signal.throwIfAborted();
        if (hasCode(error, 'RANGE_INVALID')) throw error;
        // Another read may have found a new one meanwhile.
        if (this.#targets.get(key) === target) this.#targets.delete(key);
      }
    }
    const response = await this.#client.send(request);
    if (response.url.href !== request.url.href) this.#remember(key, response.url);
    return response;
  }

  #remember(key: string, target: URL): void {
    this.#targets.delete(key);
    this.#targets.set(key, target);
    const oldest = this.#targets.keys().next().value;
    if (this.#targets.size > maxRememberedTargets && oldest !== undefined) this.#targets.delete(oldest);
  }

  #request(repository: string, digest: Digest) {
    return {
      url: this.#client.url(`/v2/${repository}/blobs/${digest}`),
      what: `blob ${digest} of ${repository}`,
      subject: 'blob',
      scope: Scope.repository(repository, 'pull'),
    } as const;
  }
}
