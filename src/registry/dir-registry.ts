import type { Readable } from 'node:stream';
import type { Descriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import { mediaTypes } from '../oci/media-type.ts';
import { hasCode } from './errors.ts';
import { acceptManifest, checkRequiredBlobs } from './manifest-check.ts';
import { checkDigest, checkRepository } from './names.ts';
import { namesAfter } from './names-after.ts';
import { blobUnknown, manifestUnknown, repositoryUnknown } from './not-found.ts';
import { pushAsUpload } from './store/push-as-upload.ts';
import type {
  BlobReader,
  BlobWriter,
  CallOptions,
  GetBlobOptions,
  ListOptions,
  ManifestContent,
  PushManifestOptions,
  ReferrersOptions,
  Registry,
} from './interface.ts';
import { BlobStore } from './store/blob-store.ts';
import { ContentPool, renew, statIfPresent } from './store/content-pool.ts';
import { isNotFound } from './store/durable-file.ts';
import { openFileBlob } from './store/file-blob.ts';
import { FileUpload } from './store/file-upload.ts';
import type { UploadPlace } from './store/file-upload.ts';
import { collectGarbage } from './store/garbage-collector.ts';
import type { GarbageOptions, GarbageReport } from './store/garbage-report.ts';
import { directoryIndex } from './layout/layout-directory.ts';
import { LayoutIndex } from './layout/layout-index.ts';
import { ManifestStore } from './store/manifest-store.ts';
import { StorePaths } from './store/paths.ts';
import { repositoriesOf } from './store/repository-folders.ts';
import { RepositoryLocks } from './store/repository-locks.ts';
import { TagIndex, isTagEntry } from './store/tag-index.ts';

/** What was used within this time is not marked as used again. */
const renewAfterMs = 60_000;

/**
 * A registry in a directory, which is an OCI image layout to other tools (its tags are named `<repository>:<tag>` there). Every change is durable when
 * its call returns. Several processes may use one directory, and any of them may be killed at any moment.
 */
export class DirRegistry implements Registry {
  readonly #paths: StorePaths;
  readonly #pool: ContentPool;
  readonly #blobs: BlobStore;
  readonly #manifests: ManifestStore;
  readonly #locks: RepositoryLocks;
  readonly #layout: LayoutIndex;
  readonly #tagIndex: TagIndex;

  /** The directory is made by the first write. */
  constructor(root: string) {
    this.#paths = new StorePaths(root);
    this.#pool = new ContentPool(this.#paths);
    this.#blobs = new BlobStore(this.#paths, this.#pool);
    this.#manifests = new ManifestStore(this.#paths, this.#pool);
    this.#locks = new RepositoryLocks(this.#paths);
    this.#layout = new LayoutIndex(directoryIndex(this.#paths.root));
    this.#tagIndex = new TagIndex(this.#layout, this.#paths, this.#manifests);
  }

  async getBlob(repository: string, digest: Digest, options: GetBlobOptions = {}): Promise<BlobReader> {
    const reader = await openFileBlob(this.#paths.blob(repository, digest), digest, undefined, options);
    if (reader === undefined) throw blobUnknown(repository, digest);
    return reader;
  }

  async getBlobRange(
    repository: string,
    digest: Digest,
    start: number,
    end: number | undefined,
    options: CallOptions = {},
  ): Promise<BlobReader> {
    const reader = await openFileBlob(this.#paths.blob(repository, digest), digest, { start, end }, options);
    if (reader === undefined) throw blobUnknown(repository, digest);
    return reader;
  }

  async getManifest(repository: string, digest: Digest): Promise<ManifestContent> {
    const content = await this.#manifests.get(repository, digest);
    if (content === undefined) throw manifestUnknown(repository, `@${digest}`);
    return content;
  }

  async getTag(repository: string, tag: string): Promise<ManifestContent> {
    const digest = await this.#manifests.tag(repository, tag);
    const content = digest === undefined ? undefined : await this.#manifests.get(repository, digest);
    if (content === undefined) throw manifestUnknown(repository, `:${tag}`);
    return content;
  }

  async resolveBlob(repository: string, digest: Digest): Promise<Descriptor> {
    const found = await this.#blobs.find(repository, digest);
    if (found === undefined || !(await keep(this.#paths.blob(repository, digest), found)))
      throw blobUnknown(repository, digest);
    return { mediaType: mediaTypes.octetStream, digest, size: found.size };
  }

  async resolveManifest(repository: string, digest: Digest): Promise<Descriptor> {
    const found = await this.#manifests.find(repository, digest);
    if (found === undefined || !(await keep(this.#paths.manifest(repository, digest), found)))
      throw manifestUnknown(repository, `@${digest}`);
    return found.descriptor;
  }

  async resolveTag(repository: string, tag: string): Promise<Descriptor> {
    const digest = await this.#manifests.tag(repository, tag);
    const descriptor = digest === undefined ? undefined : await this.#manifests.resolve(repository, digest);
    if (descriptor === undefined) throw manifestUnknown(repository, `:${tag}`);
    return descriptor;
  }

  async pushBlob(
    repository: string,
    descriptor: Descriptor,
    body: () => Readable,
    options: CallOptions = {},
  ): Promise<Descriptor> {
    if (await this.#isThere(repository, descriptor, options)) return descriptor;
    return await pushAsUpload(await this.pushBlobChunked(repository, undefined, options), descriptor, body, options);
  }

  async pushBlobChunked(repository: string, _chunkSize?: number, options: CallOptions = {}): Promise<BlobWriter> {
    options.signal?.throwIfAborted();
    return await FileUpload.start(this.#uploads(repository));
  }

  async resumeBlob(repository: string, id: string, offset: number | undefined): Promise<BlobWriter> {
    return await FileUpload.resume(this.#uploads(repository), id, offset);
  }

  async mountBlob(
    fromRepository: string,
    toRepository: string,
    digest: Digest,
    options: CallOptions = {},
  ): Promise<Descriptor> {
    checkRepository(toRepository);
    const found = await this.#blobs.find(fromRepository, digest);
    if (found === undefined) throw blobUnknown(fromRepository, digest);
    using _change = await this.#locks.enter(toRepository, 'shared', options);
    if (!(await this.#blobs.mount(fromRepository, toRepository, digest))) throw blobUnknown(fromRepository, digest);
    return { mediaType: mediaTypes.octetStream, digest, size: found.size };
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
    {
      // Nothing the manifest needs can be collected between the check and the moment it is there.
      using _change = await this.#locks.enter(repository, 'shared', options);
      await checkRequiredBlobs(
        document,
        repository,
        async (digest) => {
          return (await this.#blobs.find(repository, digest)) !== undefined;
        },
        options,
      );
      await this.#manifests.put(repository, descriptor, bytes);
      if (tag !== undefined && options.ifAbsent === true)
        await this.#manifests.putNewTag(repository, tag, descriptor.digest);
      else if (tag !== undefined) await this.#manifests.putTag(repository, tag, descriptor.digest);
    }
    if (tag !== undefined) await this.#tagIndex.update(repository, [tag], options);
    return descriptor;
  }

  async deleteBlob(repository: string, digest: Digest, options: CallOptions = {}): Promise<void> {
    if ((await this.#blobs.find(repository, digest)) === undefined) throw blobUnknown(repository, digest);
    using _change = await this.#locks.enter(repository, 'shared', options);
    if (!(await this.#blobs.remove(repository, digest))) throw blobUnknown(repository, digest);
    await this.#forget(digest);
  }

  /** Its tags go with it. */
  async deleteManifest(repository: string, digest: Digest, options: CallOptions = {}): Promise<void> {
    const unknown = () => manifestUnknown(repository, `@${digest}`);
    if ((await this.#manifests.find(repository, digest)) === undefined) throw unknown();
    let tags: string[];
    {
      // A push at this moment would tag what is going away.
      using _alone = await this.#locks.enter(repository, 'exclusive', options);
      tags = await this.#manifests.tagsOf(repository, digest);
      for (const tag of tags) await this.#manifests.removeTag(repository, tag);
      if (!(await this.#manifests.remove(repository, digest))) throw unknown();
      await this.#forget(digest);
    }
    await this.#tagIndex.update(repository, tags, options);
  }

  async deleteTag(repository: string, tag: string, options: CallOptions = {}): Promise<void> {
    const unknown = () => manifestUnknown(repository, `:${tag}`);
    if (!(await this.#manifests.hasTag(repository, tag))) throw unknown();
    {
      using _change = await this.#locks.enter(repository, 'shared', options);
      if (!(await this.#manifests.removeTag(repository, tag))) throw unknown();
    }
    await this.#tagIndex.update(repository, [tag], options);
  }

  async *repositories(options: ListOptions = {}): AsyncGenerator<string> {
    yield* namesAfter(await repositoriesOf(this.#paths), options.startAfter);
  }

  async *tags(repository: string, options: ListOptions = {}): AsyncGenerator<string> {
    const tags = await this.#manifests.tags(repository);
    if (tags === undefined) throw repositoryUnknown(repository);
    yield* namesAfter(tags, options.startAfter);
  }

  async *referrers(repository: string, digest: Digest, options: ReferrersOptions = {}): AsyncGenerator<Descriptor> {
    for await (const referrer of this.#manifests.referrers(repository, digest)) {
      if (options.artifactType === undefined || referrer.artifactType === options.artifactType) yield referrer;
    }
  }

  /** Makes index.json what the tags say. Killed processes may leave it behind; the first change of each process does the same. */
  async repair(options: CallOptions = {}): Promise<void> {
    await this.#tagIndex.reconcile(options);
  }

  /**
   * Removes what nothing needs any more, while others use the store; see docs/on-disk.md. Reads and pushes go on, but a push of a manifest that counts on
   * an old blob that nothing named may end with MANIFEST_BLOB_UNKNOWN. Errors: UNKNOWN when index.json is damaged, those of the file system.
   */
  async collectGarbage(options: GarbageOptions): Promise<GarbageReport> {
    const exists = (await statIfPresent(this.#paths.root)) !== undefined;
    if (exists && options.dryRun !== true) await this.repair(options);
    return await collectGarbage(
      { paths: this.#paths, pool: this.#pool, manifests: this.#manifests, locks: this.#locks, layout: this.#layout },
      options,
    );
  }

  #uploads(repository: string): UploadPlace {
    return {
      repository,
      dir: this.#paths.uploads(repository),
      adopt: async (digest, file, options) => {
        checkDigest(digest);
        using _change = await this.#locks.enter(repository, 'shared', options);
        return await this.#blobs.adopt(repository, digest, file);
      },
    };
  }

  /** Whether a pushed blob need not be stored. No collector removes it at this moment, nor within its period of grace. */
  async #isThere(repository: string, { digest, size }: Descriptor, options: CallOptions): Promise<boolean> {
    if ((await this.#blobs.find(repository, digest))?.size !== size) return false;
    using _change = await this.#locks.enter(repository, 'shared', options);
    const found = await this.#blobs.find(repository, digest);
    return found !== undefined && (await keep(this.#paths.blob(repository, digest), found));
  }

  /** Content goes with its last repository. Where other tools keep images too, or index.json is damaged, it is left to the collector, which looks at all. */
  async #forget(digest: Digest): Promise<void> {
    try {
      const others = await this.#layout.select((entry) => !isTagEntry(entry));
      if (others.length === 0) await this.#pool.drop(digest);
    } catch (error) {
      if (!hasCode(error, 'UNKNOWN')) throw error;
    }
  }
}

/**
 * Who is told that this is there may count on it with what is pushed next, so it counts as new. False when it was collected at this moment. (A collector that
 * has judged it already may still take it; then that push is refused.)
 */
async function keep(file: string, found: { readonly mtimeMs: number }): Promise<boolean> {
  if (Date.now() - found.mtimeMs < renewAfterMs) return true;
  try {
    await renew(file);
    return true;
  } catch (error) {
    if (isNotFound(error)) return false;
    // A store that can only be read has no collector either.
    if (['EROFS', 'EACCES', 'EPERM'].includes(String((error as NodeJS.ErrnoException).code))) return true;
    throw error;
  }
}
