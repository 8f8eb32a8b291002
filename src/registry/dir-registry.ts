import { readdir, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import type { Readable } from 'node:stream';
import type { Descriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import { mediaTypes } from '../oci/media-type.ts';
import { isRepository } from '../oci/reference.ts';
import { RegistryError } from './errors.ts';
import { checkManifest, nameOfManifest, requiredBlobs } from './manifest-check.ts';
import { checkRepository, checkTag } from './names.ts';
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
import { BlobStore, blobUnknown } from './store/blob-store.ts';
import { isNotFound } from './store/durable-file.ts';
import { openFileBlob } from './store/file-blob.ts';
import { FileUpload } from './store/file-upload.ts';
import { ManifestStore } from './store/manifest-store.ts';
import { StorePaths } from './store/paths.ts';

/** A registry in a directory. Every change is durable when its call returns; several processes may use one directory. */
export class DirRegistry implements Registry {
  readonly #paths: StorePaths;
  readonly #blobs: BlobStore;
  readonly #manifests: ManifestStore;

  /** The directory is made by the first write. */
  constructor(root: string) {
    this.#paths = new StorePaths(root);
    this.#blobs = new BlobStore(this.#paths);
    this.#manifests = new ManifestStore(this.#paths);
  }

  async getBlob(repository: string, digest: Digest, options: CallOptions = {}): Promise<BlobReader> {
    const reader = await openFileBlob(this.#paths.blob(repository, digest), digest, undefined, options);
    return reader ?? this.#missingBlob(repository, digest);
  }

  async getBlobRange(
    repository: string,
    digest: Digest,
    start: number,
    end: number | undefined,
    options: CallOptions = {},
  ): Promise<BlobReader> {
    const reader = await openFileBlob(this.#paths.blob(repository, digest), digest, { start, end }, options);
    return reader ?? this.#missingBlob(repository, digest);
  }

  async getManifest(repository: string, digest: Digest): Promise<ManifestContent> {
    return (await this.#manifests.get(repository, digest)) ?? this.#missingManifest(repository, `@${digest}`);
  }

  async getTag(repository: string, tag: string): Promise<ManifestContent> {
    const digest = await this.#manifests.tag(repository, tag);
    const content = digest === undefined ? undefined : await this.#manifests.get(repository, digest);
    return content ?? this.#missingManifest(repository, `:${tag}`);
  }

  async resolveBlob(repository: string, digest: Digest): Promise<Descriptor> {
    const size = await this.#blobs.size(repository, digest);
    return size === undefined
      ? this.#missingBlob(repository, digest)
      : { mediaType: mediaTypes.octetStream, digest, size };
  }

  async resolveManifest(repository: string, digest: Digest): Promise<Descriptor> {
    return (await this.#manifests.resolve(repository, digest)) ?? this.#missingManifest(repository, `@${digest}`);
  }

  async resolveTag(repository: string, tag: string): Promise<Descriptor> {
    const digest = await this.#manifests.tag(repository, tag);
    const descriptor = digest === undefined ? undefined : await this.#manifests.resolve(repository, digest);
    return descriptor ?? this.#missingManifest(repository, `:${tag}`);
  }

  async pushBlob(
    repository: string,
    descriptor: Descriptor,
    body: () => Readable,
    options: CallOptions = {},
  ): Promise<Descriptor> {
    if ((await this.#blobs.size(repository, descriptor.digest)) === descriptor.size) return descriptor;
    const upload = await FileUpload.start(this.#paths, this.#blobs, repository);
    try {
      for await (const chunk of body() as AsyncIterable<Uint8Array>) {
        if (upload.size + chunk.byteLength > descriptor.size) {
          throw new RegistryError(
            'SIZE_INVALID',
            `${descriptor.digest} has more than the ${descriptor.size} bytes announced`,
          );
        }
        await upload.write(chunk, options);
      }
      if (upload.size !== descriptor.size) {
        throw new RegistryError(
          'SIZE_INVALID',
          `${descriptor.digest} has ${upload.size} bytes, not the ${descriptor.size} announced`,
        );
      }
      await upload.commit(descriptor.digest, options);
      return descriptor;
    } finally {
      await upload.cancel();
    }
  }

  async pushBlobChunked(repository: string): Promise<BlobWriter> {
    return await FileUpload.start(this.#paths, this.#blobs, repository);
  }

  async resumeBlob(repository: string, id: string, offset: number | undefined): Promise<BlobWriter> {
    return await FileUpload.resume(this.#paths, this.#blobs, repository, id, offset);
  }

  async mountBlob(fromRepository: string, toRepository: string, digest: Digest): Promise<Descriptor> {
    checkRepository(toRepository);
    if (!(await this.#blobs.mount(fromRepository, toRepository, digest))) throw blobUnknown(fromRepository, digest);
    return await this.resolveBlob(toRepository, digest);
  }

  async pushManifest(
    repository: string,
    tag: string | undefined,
    bytes: Uint8Array,
    mediaType: string,
    options: PushManifestOptions = {},
  ): Promise<Descriptor> {
    checkRepository(repository);
    if (tag !== undefined) checkTag(tag);
    const document = checkManifest(bytes, mediaType);
    const required = document === undefined || options.allowMissing === true ? [] : requiredBlobs(document);
    for (const blob of required) {
      if ((await this.#blobs.size(repository, blob.digest)) === undefined) {
        throw new RegistryError(
          'MANIFEST_BLOB_UNKNOWN',
          `manifest names blob ${blob.digest}, which ${repository} does not have`,
        );
      }
    }
    const descriptor = { mediaType, digest: nameOfManifest(bytes, options.digest), size: bytes.byteLength };
    await this.#manifests.put(repository, descriptor.digest, bytes, mediaType);
    const listed = referrerOf(bytes, descriptor);
    if (listed !== undefined) await this.#manifests.putReferrer(repository, listed.subject, listed.referrer);
    if (tag !== undefined) await this.#manifests.putTag(repository, tag, descriptor.digest);
    return descriptor;
  }

  async deleteBlob(repository: string, digest: Digest): Promise<void> {
    if (!(await this.#blobs.remove(repository, digest))) await this.#missingBlob(repository, digest);
  }

  async deleteManifest(repository: string, digest: Digest): Promise<void> {
    const { bytes, descriptor } = await this.getManifest(repository, digest);
    const listed = referrerOf(bytes, descriptor);
    if (listed !== undefined) await this.#manifests.removeReferrer(repository, listed.subject, digest);
    if (!(await this.#manifests.remove(repository, digest))) await this.#missingManifest(repository, `@${digest}`);
  }

  async deleteTag(repository: string, tag: string): Promise<void> {
    if (!(await this.#manifests.removeTag(repository, tag))) await this.#missingManifest(repository, `:${tag}`);
  }

  async *repositories(options: ListOptions = {}): AsyncGenerator<string> {
    const names = await this.#repositoriesBelow(this.#paths.repositories, '');
    yield* after(names.sort(), options.startAfter);
  }

  async *tags(repository: string, options: ListOptions = {}): AsyncGenerator<string> {
    const tags = await this.#manifests.tags(repository);
    if (tags === undefined) throw new RegistryError('NAME_UNKNOWN', `repository ${repository} not found`);
    yield* after(tags, options.startAfter);
  }

  async *referrers(repository: string, digest: Digest, options: ReferrersOptions = {}): AsyncGenerator<Descriptor> {
    for await (const referrer of this.#manifests.referrers(repository, digest)) {
      if (options.artifactType === undefined || referrer.artifactType === options.artifactType) yield referrer;
    }
  }

  /** Removes uploads that nobody has written to for `olderThanMs`. Returns how many. */
  async removeStaleUploads(olderThanMs: number): Promise<number> {
    let removed = 0;
    for (const repository of await this.#repositoriesBelow(this.#paths.repositories, '')) {
      const dir = path.join(this.#paths.repository(repository), '_uploads');
      for (const name of await readdir(dir).catch(() => [])) {
        const file = path.join(dir, name);
        const state = await stat(file).catch(() => undefined);
        if (state === undefined || Date.now() - state.mtimeMs < olderThanMs) continue;
        await rm(file, { force: true });
        removed += 1;
      }
    }
    return removed;
  }

  async #repositoriesBelow(dir: string, name: string): Promise<string[]> {
    let entries;
    try {
      entries = await readdir(dir, { withFileTypes: true });
    } catch (error) {
      if (isNotFound(error)) return [];
      throw error;
    }
    const own = entries.some((entry) => entry.name.startsWith('_')) ? [name] : [];
    const below = entries.filter((entry) => entry.isDirectory() && isRepository(entry.name));
    const deeper = await Promise.all(
      below.map((entry) =>
        this.#repositoriesBelow(path.join(dir, entry.name), name === '' ? entry.name : `${name}/${entry.name}`),
      ),
    );
    return [...own, ...deeper.flat()];
  }

  #missingBlob(repository: string, digest: Digest): Promise<never> {
    return Promise.reject(blobUnknown(repository, digest));
  }

  #missingManifest(repository: string, name: string): Promise<never> {
    return Promise.reject(new RegistryError('MANIFEST_UNKNOWN', `manifest ${repository}${name} not found`));
  }
}

function after(sorted: readonly string[], startAfter: string | undefined): readonly string[] {
  return startAfter === undefined ? sorted : sorted.filter((name) => name > startAfter);
}
