// Pushing blobs (distribution spec, "Pushing blobs"): one session with one PUT, in chunks, or a mount.
import type { Readable } from 'node:stream';
import type { Descriptor } from '../../oci/descriptor.ts';
import { digestAlgorithm } from '../../oci/digest.ts';
import type { Digest } from '../../oci/digest.ts';
import { Scope } from '../auth/scope.ts';
import { VerifyingStream } from '../blob-content.ts';
import { RegistryError } from '../errors.ts';
import type { CallOptions } from '../interface.ts';
import type { HttpResponse } from './http.ts';
import { discard } from './registry-client.ts';
import type { ClientRequest, RegistryClient } from './registry-client.ts';

export interface UploadSession {
  /** Where to continue; changes with every answer. */
  readonly location: URL;
  readonly minChunkSize: number;
}

export class UploadCalls {
  readonly client: RegistryClient;

  constructor(client: RegistryClient) {
    this.client = client;
  }

  /** The whole upload is tried again when it breaks, from a new session and a new `body()`. */
  async push(
    repository: string,
    descriptor: Descriptor,
    body: () => Readable,
    options: CallOptions = {},
  ): Promise<void> {
    const attempt = async () => {
      const query = { 'digest-algorithm': algorithmQuery(descriptor.digest) };
      const { location } = await this.start(repository, query, { ...options, attempts: 'once' });
      const response = await this.client.send({
        ...this.#request(repository),
        method: 'PUT',
        url: withDigest(location, descriptor.digest),
        headers: { 'content-type': 'application/octet-stream' },
        body: { size: descriptor.size, open: () => verified(descriptor, body()) },
        accept: [201, 204],
        attempts: 'once',
        ...options,
      });
      discard(response);
    };
    await this.client.retry(attempt, options.signal);
  }

  async start(
    repository: string,
    query: Readonly<Record<string, string | undefined>>,
    options: CallOptions & Pick<ClientRequest, 'attempts'> = {},
  ): Promise<UploadSession> {
    const response = await this.#post(repository, query, [202], Scope.repository(repository, 'pull', 'push'), options);
    return this.sessionOf(response, repository);
  }

  /** Errors: UNSUPPORTED when the registry opened a session instead. */
  async mount(from: string, to: string, digest: Digest, options: CallOptions = {}): Promise<void> {
    const scope = Scope.repository(to, 'pull', 'push').union(Scope.repository(from, 'pull'));
    const response = await this.#post(to, { mount: digest, from }, [201, 202], scope, options);
    if (response.status === 201) return;
    await this.cancel(this.sessionOf(response, to).location, to, options);
    throw new RegistryError(
      'UNSUPPORTED',
      `blob ${digest} cannot be mounted from ${from} to ${to} at ${this.client.options.host}`,
    );
  }

  /** A session left alone expires by itself, so a failure to end it is of no interest. */
  async cancel(location: URL, repository: string, options: CallOptions = {}): Promise<void> {
    try {
      const request = {
        ...this.#request(repository),
        method: 'DELETE',
        url: location,
        accept: [204, 200, 202],
        attempts: 'once',
      } as const;
      discard(await this.client.send({ ...request, ...options }));
    } catch {
      options.signal?.throwIfAborted();
    }
  }

  sessionOf(response: HttpResponse, repository: string): UploadSession {
    const location = response.header('location');
    const what = `upload to ${repository} at ${this.client.options.host}`;
    if (location === undefined || !URL.canParse(location, response.url.href)) {
      throw new RegistryError('RESPONSE_INVALID', `${what}: the answer has no valid location`, {
        status: response.status,
      });
    }
    const url = new URL(location, response.url);
    if (url.protocol !== 'https:' && url.protocol !== this.client.options.endpoint.protocol) {
      throw new RegistryError('RESPONSE_INVALID', `${what}: continues at an insecure address`, {
        status: response.status,
      });
    }
    const minimum = Number(response.header('oci-chunk-min-length') ?? 0);
    return { location: url, minChunkSize: Number.isSafeInteger(minimum) && minimum > 0 ? minimum : 0 };
  }

  async #post(
    repository: string,
    query: Readonly<Record<string, string | undefined>>,
    accept: readonly number[],
    scope: Scope,
    options: CallOptions & Pick<ClientRequest, 'attempts'>,
  ): Promise<HttpResponse> {
    const request = {
      ...this.#request(repository),
      method: 'POST',
      url: this.client.url(`/v2/${repository}/blobs/uploads/`, query),
      accept,
      scope,
    } as const;
    const response = await this.client.send({
      ...request,
      body: { size: 0, open: () => new Uint8Array() },
      ...options,
    });
    discard(response);
    return response;
  }

  #request(repository: string) {
    return {
      what: `upload to ${repository}`,
      subject: 'upload',
      scope: Scope.repository(repository, 'pull', 'push'),
    } as const;
  }
}

/** The session's own query parameters are kept as they are: some registries sign them. */
export function withDigest(location: URL, digest: Digest): URL {
  const url = new URL(location);
  url.search = `${url.search === '' ? '?' : `${url.search}&`}digest=${encodeURIComponent(digest)}`;
  return url;
}

/** Registries assume sha256 unless told otherwise when the session starts. */
export function algorithmQuery(digest: Digest): string | undefined {
  const algorithm = digestAlgorithm(digest);
  return algorithm === 'sha256' ? undefined : algorithm;
}

function verified(descriptor: Descriptor, source: Readable): Readable {
  const stream = new VerifyingStream(descriptor.digest, descriptor.size);
  source.once('error', (error) => stream.destroy(error));
  stream.once('close', () => source.destroy());
  return source.pipe(stream);
}
