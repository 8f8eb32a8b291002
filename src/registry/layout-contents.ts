import { buffer } from 'node:stream/consumers';
import type { Descriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import { OciError } from '../oci/errors.ts';
import { maxManifestBytes, parseImageIndex } from '../oci/manifest.ts';
import { isIndexType, isManifestType, mediaTypes } from '../oci/media-type.ts';
import { BaseRegistry } from './base-registry.ts';
import { RegistryError, hasCode } from './errors.ts';
import { acceptManifest, checkRequiredBlobs } from './manifest-check.ts';
import { manifestMediaType } from './manifest-media-type.ts';
import { checkDigest, checkRepository, checkTag } from './names.ts';
import { namesAfter } from './names-after.ts';
import { blobUnknown, manifestUnknown, repositoryUnknown, tagTaken } from './not-found.ts';
import { referrerOf } from './referrer-of.ts';
import { isReferrersTag, referrersTag } from './referrers-tag.ts';
import type {
  BlobReader,
  CallOptions,
  ListOptions,
  ManifestContent,
  PushManifestOptions,
  ReferrersOptions,
} from './interface.ts';
import type { LayoutFiles } from './layout/layout-files.ts';
import { LayoutIndex, findTagged, refName } from './layout/layout-index.ts';

/**
 * An OCI image layout (image spec, image-layout.md) as a registry with a single repository: whatever name is asked for, it is this one. Only who leaves the
 * name empty is told in which file or folder something was not found: a client over HTTP cannot, and shall not know.
 */
export class LayoutContents extends BaseRegistry {
  readonly #files: LayoutFiles;
  readonly #index: LayoutIndex;

  constructor(files: LayoutFiles) {
    super();
    this.#files = files;
    this.#index = new LayoutIndex(files.index);
  }

  /** What a reference without tag and digest means: the only image, or the one called `latest`. Errors: MANIFEST_UNKNOWN naming the tags there are. */
  async resolveDefault(): Promise<Descriptor> {
    const images: Descriptor[] = [];
    for (const entry of await this.#index.manifests()) if (await this.#isImage(entry)) images.push(entry);
    const [first] = images;
    if (first !== undefined && images.every(({ digest }) => digest === first.digest))
      return (await this.getManifest('', first.digest)).descriptor;
    if (images.some((entry) => hasName(entry, 'latest'))) return await this.resolveTag('', 'latest');
    const tags = images.map(({ annotations }) => annotations?.[refName]).filter((tag) => tag !== undefined);
    const found =
      images.length === 0
        ? 'no image'
        : `${images.length} images (${tags.slice(0, 20).join(', ')}), none of them called latest`;
    throw new RegistryError('MANIFEST_UNKNOWN', `${this.#files.name} has ${found}`);
  }

  override async getBlob(repository: string, digest: Digest, options: CallOptions = {}): Promise<BlobReader> {
    checkName(repository);
    return (await this.#files.open(checkDigest(digest), undefined, options)) ?? this.#missingBlob(repository, digest);
  }

  override async getBlobRange(
    repository: string,
    digest: Digest,
    start: number,
    end: number | undefined,
    options: CallOptions = {},
  ): Promise<BlobReader> {
    checkName(repository);
    return (
      (await this.#files.open(checkDigest(digest), { start, end }, options)) ?? this.#missingBlob(repository, digest)
    );
  }

  override async resolveBlob(repository: string, digest: Digest): Promise<Descriptor> {
    checkName(repository);
    const size = await this.#files.size(checkDigest(digest));
    return size === undefined
      ? await this.#missingBlob(repository, digest)
      : { mediaType: mediaTypes.octetStream, digest, size };
  }

  override async getManifest(repository: string, digest: Digest, options: CallOptions = {}): Promise<ManifestContent> {
    checkName(repository);
    const reader = await this.#files.open(checkDigest(digest), undefined, options);
    if (reader === undefined) return await this.#missingManifest(repository, `@${digest}`);
    if (reader.descriptor.size > maxManifestBytes) {
      reader.close();
      throw new RegistryError(
        'TOO_LARGE',
        `manifest ${digest} has ${reader.descriptor.size} bytes, more than a manifest may`,
      );
    }
    const bytes = await buffer(reader.body);
    return { descriptor: { mediaType: manifestMediaType(bytes, undefined), digest, size: bytes.byteLength }, bytes };
  }

  override async getTag(repository: string, tag: string, options: CallOptions = {}): Promise<ManifestContent> {
    checkName(repository);
    const entry = await this.#tagged(repository, checkTag(tag));
    if (entry === undefined) return await this.#missingManifest(repository, `:${tag}`);
    const { descriptor, bytes } = await this.getManifest(repository, entry.digest, options);
    // A document that does not name its own type has that of its entry.
    return descriptor.mediaType === mediaTypes.octetStream
      ? { descriptor: { ...descriptor, mediaType: entry.mediaType }, bytes }
      : { descriptor, bytes };
  }

  override async resolveManifest(repository: string, digest: Digest, options: CallOptions = {}): Promise<Descriptor> {
    return (await this.getManifest(repository, digest, options)).descriptor;
  }

  override async resolveTag(repository: string, tag: string, options: CallOptions = {}): Promise<Descriptor> {
    return (await this.getTag(repository, tag, options)).descriptor;
  }

  /**
   * index.json lists it when it has a tag or a subject, and the first manifest of all; others are there for whoever knows their digest. An
   * index takes the place of those of its manifests that stand there without a name: they are no images of their own.
   */
  override async pushManifest(
    repository: string,
    tag: string | undefined,
    bytes: Uint8Array,
    mediaType: string,
    options: PushManifestOptions = {},
  ): Promise<Descriptor> {
    checkName(repository);
    const { document, descriptor } = acceptManifest(tag, bytes, mediaType, options);
    const isThere = async (blob: Digest) => (await this.#files.size(blob)) !== undefined;
    await checkRequiredBlobs(document, repository === '' ? this.#files.name : repository, isThere, options);
    await this.#files.putManifest(descriptor, bytes, options);
    const artifactType = referrerOf(bytes, descriptor)?.referrer.artifactType;
    const entry = { ...descriptor, ...(artifactType === undefined ? {} : { artifactType }) };
    const refuse =
      options.ifAbsent === true && tag !== undefined
        ? (holder: string) => {
            throw tagTaken(repository, tag, holder);
          }
        : undefined;
    const fresh = !(await this.#index.exists());
    const unnamed = fresh || document?.kind !== 'index' ? new Set() : await this.#unnamed(document.manifests);
    if (tag !== undefined || artifactType !== undefined || fresh || unnamed.size > 0)
      await this.#index.add(entry, tag, { signal: options.signal, refuse });
    if (unnamed.size > 0)
      await this.#index.remove(({ digest, tag: name }) => name === undefined && unnamed.has(digest), options);
    return descriptor;
  }

  /** Out of index.json; its file stays, other manifests may name it. */
  override async deleteManifest(repository: string, digest: Digest, options: CallOptions = {}): Promise<void> {
    checkName(repository);
    checkDigest(digest);
    const removed = await this.#index.remove((entry) => entry.digest === digest, options);
    if (removed === 0) await this.#missingManifest(repository, `@${digest}`);
  }

  override async deleteTag(repository: string, tag: string, options: CallOptions = {}): Promise<void> {
    checkName(repository);
    checkTag(tag);
    const removed = await this.#index.remove((entry) => entry.tag === tag, options);
    if (removed === 0) await this.#missingManifest(repository, `:${tag}`);
  }

  override async *tags(repository: string, options: ListOptions = {}): AsyncGenerator<string> {
    checkName(repository);
    const names = (await this.#entries(repository)).flatMap(({ annotations }) => annotations?.[refName] ?? []);
    yield* namesAfter([...new Set(names)].sort(), options.startAfter);
  }

  /** From the manifests in index.json and from the list under the fallback tag, where other tools keep it. */
  override async *referrers(
    repository: string,
    digest: Digest,
    options: ReferrersOptions = {},
  ): AsyncGenerator<Descriptor> {
    checkName(repository);
    checkDigest(digest);
    const seen = new Set<Digest>();
    for (const candidate of await this.#candidates(repository, digest, options)) {
      if (seen.has(candidate.digest) || !isManifestOrIndex(candidate)) continue;
      seen.add(candidate.digest);
      const content = await this.getManifest(repository, candidate.digest, options).catch(ignoreDamage);
      const listed =
        content === undefined
          ? undefined
          : referrerOf(content.bytes, { ...content.descriptor, mediaType: candidate.mediaType });
      if (listed?.subject !== digest) continue;
      if (options.artifactType === undefined || listed.referrer.artifactType === options.artifactType)
        yield listed.referrer;
    }
  }

  async #candidates(repository: string, digest: Digest, options: CallOptions): Promise<readonly Descriptor[]> {
    const entries = await this.#entries(repository);
    const fallback = entries.find((entry) => hasName(entry, referrersTag(digest)));
    const content =
      fallback === undefined
        ? undefined
        : await this.getManifest(repository, fallback.digest, options).catch(ignoreDamage);
    if (content === undefined) return entries;
    try {
      return [...entries, ...parseImageIndex(content.bytes).manifests];
    } catch (error) {
      if (error instanceof OciError) return entries;
      throw error;
    }
  }

  async #unnamed(parts: readonly Descriptor[]): Promise<ReadonlySet<unknown>> {
    const entries = (await this.#index.manifests()).filter(
      ({ annotations, artifactType }) => annotations?.[refName] === undefined && artifactType === undefined,
    );
    const listed = new Set(entries.map(({ digest }) => digest));
    return new Set(parts.map(({ digest }) => digest).filter((digest) => listed.has(digest)));
  }

  async #tagged(repository: string, tag: string): Promise<Descriptor | undefined> {
    return findTagged(await this.#entries(repository), tag, ({ annotations }) => annotations?.[refName]);
  }

  async #isImage(entry: Descriptor): Promise<boolean> {
    if (!isManifestOrIndex(entry) || entry.artifactType !== undefined) return false;
    if (isReferrersTag(entry.annotations?.[refName] ?? '')) return false;
    const content = await this.getManifest('', entry.digest).catch(ignoreDamage);
    return content === undefined || referrerOf(content.bytes, entry) === undefined;
  }

  /** Errors: NAME_UNKNOWN, UNKNOWN when index.json is damaged. */
  async #entries(repository: string): Promise<readonly Descriptor[]> {
    try {
      return await this.#index.manifests();
    } catch (error) {
      if (repository === '' || !hasCode(error, 'NAME_UNKNOWN')) throw error;
      throw repositoryUnknown(repository);
    }
  }

  #missingBlob(repository: string, digest: Digest): Promise<never> {
    return Promise.reject(
      repository === ''
        ? new RegistryError('BLOB_UNKNOWN', `blob ${digest} not found in ${this.#files.name}`)
        : blobUnknown(repository, digest),
    );
  }

  #missingManifest(repository: string, name: string): Promise<never> {
    return Promise.reject(
      repository === ''
        ? new RegistryError('MANIFEST_UNKNOWN', `manifest ${name.slice(1)} not found in ${this.#files.name}`)
        : manifestUnknown(repository, name),
    );
  }
}

/** The one repository has no name of its own; whatever name it is given must be one. */
export function checkName(repository: string): void {
  if (repository !== '') checkRepository(repository);
}

function isManifestOrIndex({ mediaType }: Descriptor): boolean {
  return isManifestType(mediaType) || isIndexType(mediaType);
}

function hasName(entry: Descriptor, tag: string): boolean {
  return entry.annotations?.[refName] === tag;
}

/** One damaged or missing manifest does not hide the others of a list. */
function ignoreDamage(error: unknown): undefined {
  if (hasCode(error, 'MANIFEST_UNKNOWN', 'TOO_LARGE', 'DIGEST_INVALID', 'SIZE_INVALID')) return undefined;
  throw error;
}
