import { randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import type { Descriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import { mediaTypes } from '../oci/media-type.ts';
import { clampRange } from './blob-range.ts';
import type { BlobRange } from './blob-range.ts';
import { RegistryError } from './errors.ts';
import { acceptManifest, checkRequiredBlobs } from './manifest-check.ts';
import { checkDigest, checkRepository, checkTag } from './names.ts';
import { namesAfter } from './names-after.ts';
import { blobUnknown, manifestUnknown, repositoryUnknown, tagTaken, uploadUnknown } from './not-found.ts';
import { pushAsUpload } from './store/push-as-upload.ts';
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
import { MemoryBudget, MemoryContent } from './store/memory-content.ts';
import { MemoryBlobWriter, MemoryUpload } from './store/memory-upload.ts';

export interface MemoryRegistryOptions {
  /** The most bytes of blobs, manifests and uploads together; default 1 GiB. A blob of several repositories counts once; each name counts a little. */
  readonly maxBytes?: number | undefined;
  /** The most uploads under way at once; default 1000. */
  readonly maxUploads?: number | undefined;
  /** An upload that nobody continued for this long is dropped when another begins; default an hour. */
  readonly uploadIdleMs?: number | undefined;
}

/** What a name costs besides its bytes, so that a great many of them (repositories, tags, empty blobs) reach the limit as well. */
const bytesPerName = 256;

interface Shared {
  readonly content: MemoryContent;
  users: number;
}

interface StoredManifest extends ManifestContent {
  readonly listed: ReturnType<typeof referrerOf>;
}

interface Repository {
  readonly blobs: Map<Digest, MemoryContent>;
  readonly manifests: Map<Digest, StoredManifest>;
  readonly tags: Map<string, Digest>;
}

/** A whole registry in memory, gone with the process. Errors besides those of the interface: TOO_LARGE and TOOMANYREQUESTS at its limits. */
export class MemoryRegistry implements Registry {
  readonly #repositories = new Map<string, Repository>();
  readonly #shared = new Map<Digest, Shared>();
  readonly #uploads = new Map<string, MemoryUpload>();
  readonly #budget: MemoryBudget;
  readonly #maxUploads: number;
  readonly #uploadIdleMs: number;

  constructor(options: MemoryRegistryOptions = {}) {
    this.#budget = new MemoryBudget(options.maxBytes ?? 1024 * 1024 * 1024);
    this.#maxUploads = options.maxUploads ?? 1_000;
    this.#uploadIdleMs = options.uploadIdleMs ?? 3_600_000;
  }

  /** Bytes that count towards `maxBytes`. */
  get bytesHeld(): number {
    return this.#budget.used;
  }

  async getBlob(repository: string, digest: Digest, options: CallOptions = {}): Promise<BlobReader> {
    return this.#read(repository, digest, undefined, options);
  }

  async getBlobRange(
    repository: string,
    digest: Digest,
    start: number,
    end: number | undefined,
    options: CallOptions = {},
  ): Promise<BlobReader> {
    return this.#read(repository, digest, { start, end }, options);
  }

  async getManifest(repository: string, digest: Digest): Promise<ManifestContent> {
    const { descriptor, bytes } = this.#manifest(repository, digest);
    return { descriptor, bytes: Buffer.from(bytes) };
  }

  async getTag(repository: string, tag: string): Promise<ManifestContent> {
    const { digest } = await this.resolveTag(repository, tag);
    return await this.getManifest(repository, digest);
  }

  async resolveBlob(repository: string, digest: Digest): Promise<Descriptor> {
    const { size } = this.#blob(repository, digest);
    return { mediaType: mediaTypes.octetStream, digest, size };
  }

  async resolveManifest(repository: string, digest: Digest): Promise<Descriptor> {
    return this.#manifest(repository, digest).descriptor;
  }

  async resolveTag(repository: string, tag: string): Promise<Descriptor> {
    checkTag(tag);
    const found = this.#find(repository);
    const digest = found?.tags.get(tag);
    const manifest = digest === undefined ? undefined : found?.manifests.get(digest);
    if (manifest === undefined) throw manifestUnknown(repository, `:${tag}`);
    return manifest.descriptor;
  }

  async pushBlob(
    repository: string,
    descriptor: Descriptor,
    body: () => Readable,
    options: CallOptions = {},
  ): Promise<Descriptor> {
    const { digest, size } = descriptor;
    checkDigest(digest);
    if (this.#find(repository)?.blobs.get(digest)?.size === size) return descriptor;
    return await pushAsUpload(await this.pushBlobChunked(repository), descriptor, body, options);
  }

  async pushBlobChunked(repository: string, _chunkSize?: number): Promise<BlobWriter> {
    checkRepository(repository);
    this.#dropIdleUploads();
    if (this.#uploads.size >= this.#maxUploads)
      throw new RegistryError('TOOMANYREQUESTS', `the registry in memory has ${this.#uploads.size} uploads under way`);
    this.#findOrMake(repository);
    const id = randomBytes(16).toString('hex');
    const upload = new MemoryUpload(id, repository, this.#budget, {
      adopt: (digest, content) => this.#adopt(repository, digest, content),
      forget: () => void this.#uploads.delete(id),
    });
    this.#uploads.set(id, upload);
    return new MemoryBlobWriter(upload);
  }

  async resumeBlob(repository: string, id: string, offset: number | undefined): Promise<BlobWriter> {
    checkRepository(repository);
    const upload = this.#uploads.get(id);
    if (upload?.repository !== repository) throw uploadUnknown(repository, id);
    const { size } = upload.content;
    if (offset !== undefined && offset !== size)
      throw new RegistryError('RANGE_INVALID', `upload to ${repository} has ${size} bytes, not ${offset}`);
    return new MemoryBlobWriter(upload);
  }

  async mountBlob(fromRepository: string, toRepository: string, digest: Digest): Promise<Descriptor> {
    checkRepository(toRepository);
    const { size } = this.#blob(fromRepository, digest);
    const shared = this.#shared.get(digest);
    if (shared !== undefined) this.#use(toRepository, digest, shared);
    return { mediaType: mediaTypes.octetStream, digest, size };
  }

  async pushManifest(
    repository: string,
    tag: string | undefined,
    bytes: Uint8Array,
    mediaType: string,
    options: PushManifestOptions = {},
  ): Promise<Descriptor> {
    checkRepository(repository);
    const { document, descriptor } = acceptManifest(tag, bytes, mediaType, options);
    await checkRequiredBlobs(
      document,
      repository,
      (digest) => this.#find(repository)?.blobs.has(digest) === true,
      options,
    );
    const { manifests, tags } = this.#findOrMake(repository);
    const holder = tag === undefined || options.ifAbsent !== true ? undefined : tags.get(tag);
    if (tag !== undefined && holder !== undefined && holder !== descriptor.digest)
      throw tagTaken(repository, tag, holder);
    if (!manifests.has(descriptor.digest)) this.#budget.take(bytes.byteLength + bytesPerName);
    manifests.set(descriptor.digest, {
      descriptor,
      bytes: Buffer.from(bytes),
      listed: referrerOf(bytes, descriptor),
    });
    if (tag === undefined) return descriptor;
    if (!tags.has(tag)) this.#budget.take(bytesPerName);
    tags.set(tag, descriptor.digest);
    return descriptor;
  }

  async deleteBlob(repository: string, digest: Digest): Promise<void> {
    const { size } = this.#blob(repository, digest);
    this.#find(repository)?.blobs.delete(digest);
    this.#budget.give(bytesPerName);
    const shared = this.#shared.get(digest);
    if (shared === undefined) return;
    shared.users -= 1;
    if (shared.users > 0) return;
    this.#shared.delete(digest);
    this.#budget.give(size);
  }

  /** Its tags go with it. */
  async deleteManifest(repository: string, digest: Digest): Promise<void> {
    const { descriptor } = this.#manifest(repository, digest);
    const { manifests, tags } = this.#findOrMake(repository);
    for (const [tag, tagged] of tags) if (tagged === digest) this.#deleteTag(tags, tag);
    manifests.delete(digest);
    this.#budget.give(descriptor.size + bytesPerName);
  }

  async deleteTag(repository: string, tag: string): Promise<void> {
    checkTag(tag);
    const tags = this.#find(repository)?.tags;
    if (tags === undefined || !this.#deleteTag(tags, tag)) throw manifestUnknown(repository, `:${tag}`);
  }

  async *repositories(options: ListOptions = {}): AsyncGenerator<string> {
    yield* namesAfter([...this.#repositories.keys()].sort(), options.startAfter);
  }

  async *tags(repository: string, options: ListOptions = {}): AsyncGenerator<string> {
    const found = this.#find(repository);
    if (found === undefined) throw repositoryUnknown(repository);
    yield* namesAfter([...found.tags.keys()].sort(), options.startAfter);
  }

  /** In the order of their digests. */
  async *referrers(repository: string, digest: Digest, options: ReferrersOptions = {}): AsyncGenerator<Descriptor> {
    checkDigest(digest);
    const manifests = [...(this.#find(repository)?.manifests.values() ?? [])];
    const found = manifests
      .flatMap(({ listed }) => (listed?.subject === digest ? listed.referrer : []))
      .sort((one, other) => (one.digest < other.digest ? -1 : 1));
    for (const referrer of found)
      if (options.artifactType === undefined || referrer.artifactType === options.artifactType) yield referrer;
  }

  #read(repository: string, digest: Digest, range: BlobRange | undefined, options: CallOptions): BlobReader {
    options.signal?.throwIfAborted();
    const content = this.#blob(repository, digest);
    const { start, end } = clampRange(range, `blob ${digest}`, content.size);
    const body = Readable.from(content.read(start, end), {
      objectMode: false,
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    });
    const descriptor = { mediaType: mediaTypes.octetStream, digest, size: content.size };
    return { descriptor, body, close: () => void body.on('error', () => {}).destroy() };
  }

  #blob(repository: string, digest: Digest): MemoryContent {
    checkDigest(digest);
    const found = this.#find(repository)?.blobs.get(digest);
    if (found === undefined) throw blobUnknown(repository, digest);
    return found;
  }

  #manifest(repository: string, digest: Digest): StoredManifest {
    checkDigest(digest);
    const found = this.#find(repository)?.manifests.get(digest);
    if (found === undefined) throw manifestUnknown(repository, `@${digest}`);
    return found;
  }

  #find(repository: string): Repository | undefined {
    return this.#repositories.get(checkRepository(repository));
  }

  #findOrMake(repository: string): Repository {
    const found = this.#find(repository);
    if (found !== undefined) return found;
    this.#budget.take(bytesPerName);
    const made: Repository = { blobs: new Map(), manifests: new Map(), tags: new Map() };
    this.#repositories.set(repository, made);
    return made;
  }

  /** Content that is there already is used instead of the new. */
  #adopt(repository: string, digest: Digest, content: MemoryContent): void {
    const existing = this.#shared.get(digest);
    this.#use(repository, digest, existing ?? { content, users: 0 });
    if (existing !== undefined) this.#budget.give(content.size);
  }

  #use(repository: string, digest: Digest, shared: Shared): void {
    const { blobs } = this.#findOrMake(repository);
    if (blobs.has(digest)) return;
    this.#budget.take(bytesPerName);
    shared.users += 1;
    this.#shared.set(digest, shared);
    blobs.set(digest, shared.content);
  }

  #deleteTag(tags: Map<string, Digest>, tag: string): boolean {
    if (!tags.delete(tag)) return false;
    this.#budget.give(bytesPerName);
    return true;
  }

  #dropIdleUploads(): void {
    const idleSince = Date.now() - this.#uploadIdleMs;
    for (const upload of this.#uploads.values()) if (upload.touchedAt <= idleSince) upload.drop();
  }
}
