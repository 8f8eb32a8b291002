import type { Readable } from 'node:stream';
import type { Dispatcher } from 'undici';
import type { Descriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import { maxManifestBytes } from '../oci/manifest.ts';
import { defaultBackoff, systemTimer } from '../util/backoff.ts';
import type { BackoffPolicy, BackoffTimer } from '../util/backoff.ts';
import { Authorizer } from './auth/authorizer.ts';
import { anonymous } from './auth/credentials.ts';
import type { CredentialSource } from './auth/credentials.ts';
import { Scope } from './auth/scope.ts';
import { BlobPush } from './client/blob-push.ts';
import { checkRange } from './blob-range.ts';
import { BlobCalls } from './client/blobs.ts';
import type { CircuitBreaker } from './client/circuit-breaker.ts';
import { ChunkedUpload, resumeUpload } from './client/chunked-upload.ts';
import { endpointOf } from './client/endpoint.ts';
import type { PlainHttp } from './client/endpoint.ts';
import { defaultHttpOptions, HttpConnections } from './client/http.ts';
import type { HttpOptions } from './client/http.ts';
import { ListCalls } from './client/lists.ts';
import { ManifestCalls } from './client/manifests.ts';
import { noProxy } from './client/proxy.ts';
import type { ProxyChoice } from './client/proxy.ts';
import type { RateLimit } from './client/rate-limit.ts';
import { ReferrerCalls } from './client/referrers.ts';
import { RegistryClient, discard } from './client/registry-client.ts';
import type { TlsOptions } from './client/secure-context.ts';
import { TlsFallback } from './client/tls-fallback.ts';
import { UploadCalls } from './client/uploads.ts';
import { RegistryError, hasCode } from './errors.ts';
import { nameOfManifest } from './manifest-check.ts';
import { checkDigest, checkRepository, checkTag } from './names.ts';
import { referrerOf } from './referrer-of.ts';
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

export interface RemoteRegistryOptions {
  /** As in a reference: `docker.io`, `localhost:5000`, `[::1]:5000`. */
  readonly host: string;
  readonly plainHttp?: PlainHttp | undefined;
  /** Root of its API where that is not `/v2` of the host: `http://mirror:5000/docker/v2`. */
  readonly baseUrl?: URL | undefined;
  /** Of a mirror: the host it is asked on behalf of, sent as the query parameter `ns`. */
  readonly namespace?: string | undefined;
  /** By names in lower case; sent with every request to the registry, never to where it redirects. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  readonly tls?: TlsOptions | undefined;
  /** Default: no proxy, whatever the environment says. */
  readonly proxy?: ProxyChoice | undefined;
  readonly credentials?: CredentialSource | undefined;
  /** What will be done here, as token scopes (`repository:a:pull repository:b:pull,push`): tokens are asked for all of it at once. */
  readonly scope?: string | undefined;
  /** Attempts per request and the waits between them; `attempts: 1` never tries again. */
  readonly backoff?: BackoffPolicy | undefined;
  readonly timer?: BackoffTimer | undefined;
  /** Default: it is asked however often it failed. */
  readonly breaker?: CircuitBreaker | undefined;
  readonly http?: Partial<HttpOptions> | undefined;
  /** Connections shared with others, in place of what `tls`, `proxy` and `http` say; not closed by `close()`. */
  readonly dispatcher?: Dispatcher | undefined;
  /** Bytes of answers' bodies, as they arrive. */
  readonly onBytes?: ((bytes: number) => void) | undefined;
  /** Warnings of the registry, and how it had to be worked around; each text once. */
  readonly onWarning?: ((text: string) => void) | undefined;
}

/** A registry reached over HTTP (OCI distribution spec 1.1; also those without its referrers API). */
export class RemoteRegistry implements Registry {
  readonly host: string;
  readonly #connections: HttpConnections;
  readonly #client: RegistryClient;
  readonly #blobs: BlobCalls;
  readonly #manifests: ManifestCalls;
  readonly #uploads: UploadCalls;
  readonly #lists: ListCalls;
  readonly #referrers: ReferrerCalls;

  constructor(options: RemoteRegistryOptions) {
    const { host, credentials = anonymous, baseUrl, tls = {}, proxy = noProxy, plainHttp = 'auto' } = options;
    const endpoint = baseUrl === undefined ? endpointOf(host, plainHttp) : new URL(baseUrl.origin);
    if (plainHttp === 'fallback') endpoint.protocol = 'https:';
    this.host = host;
    const { backoff = defaultBackoff, timer = systemTimer } = options;
    const besides = Scope.parse(options.scope ?? '');
    const connections = new HttpConnections({ ...withDefaults(options.http), tls, proxy, host }, options.dispatcher);
    this.#connections = connections;
    this.#client = new RegistryClient({
      host,
      endpoint,
      root: baseUrl === undefined ? '/v2' : baseUrl.pathname.replace(/\/+$/, ''),
      namespace: options.namespace,
      headers: options.headers ?? {},
      tlsFallback: plainHttp === 'fallback' ? new TlsFallback(endpoint, connections) : undefined,
      connections,
      authorizer: new Authorizer({ host, endpoint, credentials, connections, backoff, timer, besides }),
      backoff,
      timer,
      breaker: options.breaker,
      onBytes: options.onBytes ?? (() => {}),
      onWarning: options.onWarning ?? (() => {}),
    });
    this.#blobs = new BlobCalls(this.#client);
    this.#manifests = new ManifestCalls(this.#client);
    this.#uploads = new UploadCalls(this.#client);
    this.#lists = new ListCalls(this.#client);
    this.#referrers = new ReferrerCalls(this.#client, this.#manifests);
  }

  /** How much the registry still lets us pull, as it said last; undefined when it has not. */
  get rateLimit(): RateLimit | undefined {
    return this.#client.rateLimit;
  }

  /** Whether the registry is there and takes our credentials. Errors: UNAUTHORIZED, DENIED, UNREACHABLE; UNKNOWN when it is no registry. */
  async ping(options: CallOptions = {}): Promise<void> {
    const request = { method: 'GET', what: 'registry', subject: 'other', scope: new Scope([]), accept: [200] } as const;
    discard(await this.#client.send({ ...request, url: this.#client.url('/v2/'), ...options }));
  }

  async getBlob(repository: string, digest: Digest, options: CallOptions = {}): Promise<BlobReader> {
    const range = { start: 0, end: undefined, verify: true };
    return await this.#blobs.open(checkRepository(repository), checkDigest(digest), range, options);
  }

  async getBlobRange(
    repository: string,
    digest: Digest,
    start: number,
    end: number | undefined,
    options: CallOptions = {},
  ): Promise<BlobReader> {
    checkRange({ start, end }, digest);
    return await this.#blobs.open(
      checkRepository(repository),
      checkDigest(digest),
      { start, end, verify: false },
      options,
    );
  }

  async getManifest(repository: string, digest: Digest, options: CallOptions = {}): Promise<ManifestContent> {
    return await this.#manifests.get(checkRepository(repository), checkDigest(digest), options);
  }

  async getTag(repository: string, tag: string, options: CallOptions = {}): Promise<ManifestContent> {
    return await this.#manifests.get(checkRepository(repository), checkTag(tag), options);
  }

  async resolveBlob(repository: string, digest: Digest, options: CallOptions = {}): Promise<Descriptor> {
    return await this.#blobs.resolve(checkRepository(repository), checkDigest(digest), options);
  }

  async resolveManifest(repository: string, digest: Digest, options: CallOptions = {}): Promise<Descriptor> {
    return await this.#manifests.resolve(checkRepository(repository), checkDigest(digest), options);
  }

  async resolveTag(repository: string, tag: string, options: CallOptions = {}): Promise<Descriptor> {
    return await this.#manifests.resolve(checkRepository(repository), checkTag(tag), options);
  }

  /** A blob that the registry has already is not sent again. */
  async pushBlob(
    repository: string,
    descriptor: Descriptor,
    body: () => Readable,
    options: CallOptions = {},
  ): Promise<Descriptor> {
    try {
      const existing = await this.resolveBlob(repository, descriptor.digest, options);
      if (existing.size === descriptor.size) return descriptor;
    } catch (error) {
      if (!hasCode(error, 'BLOB_UNKNOWN', 'NAME_UNKNOWN', 'RESPONSE_INVALID', 'UNSUPPORTED')) throw error;
    }
    await new BlobPush(this.#uploads, repository, descriptor, body, options).run();
    return descriptor;
  }

  async pushBlobChunked(
    repository: string,
    chunkSize: number | undefined,
    options: CallOptions = {},
  ): Promise<BlobWriter> {
    const session = await this.#uploads.start(checkRepository(repository), {}, options);
    return new ChunkedUpload(this.#uploads, repository, session, { chunkSize, offset: 0 });
  }

  async resumeBlob(
    repository: string,
    id: string,
    offset: number | undefined,
    options: CallOptions = {},
  ): Promise<BlobWriter> {
    return await resumeUpload(this.#uploads, checkRepository(repository), id, offset, options);
  }

  async mountBlob(
    fromRepository: string,
    toRepository: string,
    digest: Digest,
    options: CallOptions = {},
  ): Promise<Descriptor> {
    await this.#uploads.mount(
      checkRepository(fromRepository),
      checkRepository(toRepository),
      checkDigest(digest),
      options,
    );
    return await this.resolveBlob(toRepository, digest, options);
  }

  /** Where the registry has no referrers API, the list under the subject's fallback tag is brought up to date too. */
  async pushManifest(
    repository: string,
    tag: string | undefined,
    bytes: Uint8Array,
    mediaType: string,
    options: PushManifestOptions = {},
  ): Promise<Descriptor> {
    checkRepository(repository);
    if (bytes.byteLength > maxManifestBytes)
      throw new RegistryError(
        'TOO_LARGE',
        `manifest has ${bytes.byteLength} bytes, more than the ${maxManifestBytes} allowed`,
      );
    const digest = nameOfManifest(bytes, options.digest);
    const put = (name: string, also?: string) =>
      this.#manifests.put(repository, name, bytes, mediaType, { signal: options.signal, tag: also });
    if (tag !== undefined) checkTag(tag);
    // A push by tag leaves it to the registry which digest names the manifest.
    let pushed = await (options.digest === undefined ? put(tag ?? digest) : put(digest, tag));
    if (options.digest !== undefined && tag !== undefined && !pushed.tagKept) pushed = await put(tag);
    const { descriptor, subjectKept } = pushed;
    const listed = subjectKept === undefined ? referrerOf(bytes, descriptor) : undefined;
    if (listed !== undefined) await this.#referrers.addToFallback(repository, listed.subject, listed.referrer, options);
    return descriptor;
  }

  async deleteBlob(repository: string, digest: Digest, options: CallOptions = {}): Promise<void> {
    await this.#blobs.delete(checkRepository(repository), checkDigest(digest), options);
  }

  async deleteManifest(repository: string, digest: Digest, options: CallOptions = {}): Promise<void> {
    const { bytes, descriptor } = await this.getManifest(repository, digest, options);
    await this.#manifests.delete(repository, digest, options);
    const listed = referrerOf(bytes, descriptor);
    if (listed !== undefined) await this.#referrers.removeFromFallback(repository, listed.subject, digest, options);
  }

  async deleteTag(repository: string, tag: string, options: CallOptions = {}): Promise<void> {
    await this.#manifests.delete(checkRepository(repository), checkTag(tag), options);
  }

  repositories(options: ListOptions = {}): AsyncIterable<string> {
    return this.#lists.repositories(options);
  }

  async *tags(repository: string, options: ListOptions = {}): AsyncGenerator<string> {
    yield* this.#lists.tags(checkRepository(repository), options);
  }

  async *referrers(repository: string, digest: Digest, options: ReferrersOptions = {}): AsyncGenerator<Descriptor> {
    yield* this.#referrers.list(checkRepository(repository), checkDigest(digest), options);
  }

  /** Ends what is under way and its connections. Idempotent. */
  async close(): Promise<void> {
    await this.#connections.destroy();
  }
}

/** Who sets a limit for answers means all of them. */
function withDefaults(given: Partial<HttpOptions> = {}): HttpOptions {
  const { headersTimeoutMs, storeTimeoutMs = headersTimeoutMs ?? defaultHttpOptions.storeTimeoutMs } = given;
  return { ...defaultHttpOptions, ...given, storeTimeoutMs };
}
