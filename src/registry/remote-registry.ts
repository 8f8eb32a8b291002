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
import { BlobCalls } from './client/blobs.ts';
import { ChunkedUpload, resumeUpload } from './client/chunked-upload.ts';
import { endpointOf } from './client/endpoint.ts';
import type { PlainHttp } from './client/endpoint.ts';
import { defaultHttpOptions, HttpConnections } from './client/http.ts';
import type { HttpOptions } from './client/http.ts';
import { ListCalls } from './client/lists.ts';
import { ManifestCalls } from './client/manifests.ts';
import { ReferrerCalls } from './client/referrers.ts';
import { RegistryClient, discard } from './client/registry-client.ts';
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
  readonly credentials?: CredentialSource | undefined;
  /** Attempts per request and the waits between them; `attempts: 1` never tries again. */
  readonly backoff?: BackoffPolicy | undefined;
  readonly timer?: BackoffTimer | undefined;
  readonly http?: Partial<HttpOptions> | undefined;
  /** Connections shared with others, a proxy, other certificates; not closed by `close()`. */
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
    const { host, credentials = anonymous } = options;
    const endpoint = endpointOf(host, options.plainHttp ?? 'auto');
    this.host = host;
    const connections = new HttpConnections({ ...defaultHttpOptions, ...options.http }, options.dispatcher);
    this.#connections = connections;
    this.#client = new RegistryClient({
      host,
      endpoint,
      connections,
      authorizer: new Authorizer({ host, endpoint, credentials, connections }),
      backoff: options.backoff ?? defaultBackoff,
      timer: options.timer ?? systemTimer,
      onBytes: options.onBytes ?? (() => {}),
      onWarning: options.onWarning ?? (() => {}),
    });
    this.#blobs = new BlobCalls(this.#client);
    this.#manifests = new ManifestCalls(this.#client);
    this.#uploads = new UploadCalls(this.#client);
    this.#lists = new ListCalls(this.#client);
    this.#referrers = new ReferrerCalls(this.#client, this.#manifests);
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
    if (
      !Number.isSafeInteger(start) ||
      start < 0 ||
      (end !== undefined && (!Number.isSafeInteger(end) || end <= start))
    ) {
      throw new RegistryError('RANGE_INVALID', `not a range of ${digest}: [${start}, ${end ?? ''})`);
    }
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
    const { descriptor, subjectKept } = await this.#manifests.put(
      repository,
      tag === undefined ? digest : checkTag(tag),
      bytes,
      mediaType,
      options,
    );
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
