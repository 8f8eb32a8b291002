// What every push of a blob is made of (distribution spec, "Pushing blobs"): sessions that begin, tell where they stand and end, and mounts.
import type { Descriptor } from '../../oci/descriptor.ts';
import { digestAlgorithm } from '../../oci/digest.ts';
import type { Digest } from '../../oci/digest.ts';
import { Scope } from '../auth/scope.ts';
import { RegistryError } from '../errors.ts';
import type { CallOptions } from '../interface.ts';
import type { HttpResponse } from './http.ts';
import { discard, retryDecision } from './registry-client.ts';
import type { ClientRequest, RegistryClient } from './registry-client.ts';

export interface UploadSession {
  /** Where to continue; changes with every answer. */
  readonly location: URL;
  readonly minChunkSize: number;
}

export interface UploadStatus extends UploadSession {
  /** Offset of the last byte the registry has; 0 may also mean that it has none. Undefined when it tells of none. */
  readonly last: number | undefined;
}

export class UploadCalls {
  readonly client: RegistryClient;

  constructor(client: RegistryClient) {
    this.client = client;
  }

  /** Where a session stands. Errors: BLOB_UPLOAD_UNKNOWN; RESPONSE_INVALID. */
  async status(
    location: URL,
    repository: string,
    options: CallOptions & Pick<ClientRequest, 'attempts'> = {},
  ): Promise<UploadStatus> {
    const request = { ...this.request(repository), method: 'GET', url: location, accept: [204, 200] } as const;
    const response = await this.client.send({ ...request, ...options });
    discard(response);
    const session =
      response.header('location') === undefined ? { location, minChunkSize: 0 } : this.sessionOf(response, repository);
    const last = lastByte(response.header('range'));
    // Not every registry tells an empty session's range, but all that have sessions answer 204.
    if (last === 'invalid' || (last === undefined && response.status !== 204)) {
      throw new RegistryError('RESPONSE_INVALID', `${this.#nameOf(repository)}: does not tell where it stands`, {
        status: response.status,
      });
    }
    return { ...session, last };
  }

  /** Whether the registry has the blob: the answer to a commit may have been lost. */
  async holds(
    repository: string,
    blob: Pick<Descriptor, 'digest' | 'size'>,
    options: CallOptions = {},
  ): Promise<boolean> {
    try {
      const response = await this.client.send({
        ...this.request(repository),
        method: 'HEAD',
        url: this.client.url(`/v2/${repository}/blobs/${blob.digest}`),
        accept: [200],
        attempts: 'once',
        ...options,
      });
      discard(response);
      return response.header('content-length') === String(blob.size);
    } catch (error) {
      options.signal?.throwIfAborted();
      if (retryDecision(error) !== undefined) throw error;
      return false;
    }
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
        ...this.request(repository),
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
    const what = this.#nameOf(repository);
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
      ...this.request(repository),
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

  #nameOf(repository: string): string {
    return `upload to ${repository} at ${this.client.options.host}`;
  }

  /** What all requests of an upload share. */
  request(repository: string) {
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

/** Of the Range header of a session: `0-N`, in some registries `bytes=0-N`; -1 for `0--1`, as some tell that they have nothing. */
export function lastByte(range: string | undefined): number | undefined | 'invalid' {
  if (range === undefined || range === '') return undefined;
  const match = /^(?:bytes=)?0-(-1|\d{1,15})$/.exec(range);
  return match === null ? 'invalid' : Number(match[1]);
}
