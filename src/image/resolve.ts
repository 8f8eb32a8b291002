// Reference → the manifest of one platform's image and its config, asking the registry no more than the pull policy says.
import { layerType } from '../oci/media-type.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { isDigest } from '../oci/digest.ts';
import type { Digest } from '../oci/digest.ts';
import { parseManifestOrIndex } from '../oci/manifest.ts';
import type { Manifest } from '../oci/manifest.ts';
import { formatPlatform, hostPlatform, selectManifest } from '../oci/platform.ts';
import type { Platform } from '../oci/platform.ts';
import { formatReference } from '../oci/reference.ts';
import type { Reference } from '../oci/reference.ts';
import { errorMessage } from '../layer/errors.ts';
import type { ImageTable } from '../state/images.ts';
import type { Content, ContentFetcher } from './content.ts';
import { ImageError } from './errors.ts';
import type { PullPolicy } from './image.ts';
import type { Origin } from './origin.ts';
import { imageErrorFrom, isUnreachable } from './registry-errors.ts';

export interface ResolvedImage {
  readonly reference: string;
  /** What the reference names: `descriptor`, or the image index it was chosen from. */
  readonly top: Descriptor;
  readonly descriptor: Descriptor;
  readonly manifest: Manifest;
  readonly config: Readonly<Record<string, unknown>>;
  /** One per layer of the manifest. */
  readonly diffIds: readonly Digest[];
  readonly warnings: readonly string[];
}

export interface ResolveDeps {
  readonly images: Pick<ImageTable, 'get' | 'put'>;
  readonly content: ContentFetcher;
}

export interface ResolveOptions {
  readonly platform: Platform | undefined;
  readonly pull: PullPolicy;
  readonly signal: AbortSignal | undefined;
}

/** Errors: ImageError. */
export async function resolveImage(
  deps: ResolveDeps,
  origin: Origin,
  reference: Reference,
  options: ResolveOptions,
): Promise<ResolvedImage> {
  const name = formatReference(reference);
  const warnings: string[] = [];
  try {
    const top = await resolveTop(deps, origin, reference, options, warnings);
    const chosen = await choosePlatform(deps, origin, name, top, options);
    return {
      ...(await readImage(deps, origin, name, chosen, options)),
      reference: name,
      top: top.descriptor,
      warnings,
    };
  } catch (error) {
    options.signal?.throwIfAborted();
    throw imageErrorFrom(error, name);
  }
}

/** Every image that `reference` stands for: one, or one per platform of an image index, attestations left out. Errors: ImageError. */
export async function resolveAllPlatforms(
  deps: ResolveDeps,
  origin: Origin,
  reference: Reference,
  options: Omit<ResolveOptions, 'platform'>,
): Promise<ResolvedImage[]> {
  const name = formatReference(reference);
  const warnings: string[] = [];
  try {
    const top = await resolveTop(deps, origin, reference, { ...options, platform: undefined }, warnings);
    const document = parseManifestOrIndex(top.bytes, top.descriptor.mediaType);
    const contents: Content[] = [];
    if (document.kind === 'manifest') contents.push(top);
    else {
      for (const entry of document.manifests.filter(isRunnable))
        contents.push(await localOrFetch(deps, origin, entry.digest, name, options));
    }
    const images: ResolvedImage[] = [];
    for (const each of contents) {
      images.push({
        ...(await readImage(deps, origin, name, each, options)),
        reference: name,
        top: top.descriptor,
        warnings,
      });
    }
    return images;
  } catch (error) {
    options.signal?.throwIfAborted();
    throw imageErrorFrom(error, name);
  }
}

/** Build tools add attestations to an index as manifests of platform unknown/unknown; SOCI adds its indexes with an artifact type. */
function isRunnable(descriptor: Descriptor): boolean {
  return (
    descriptor.artifactType === undefined &&
    descriptor.platform?.os !== 'unknown' &&
    descriptor.platform?.architecture !== 'unknown'
  );
}

async function resolveTop(
  deps: ResolveDeps,
  origin: Origin,
  reference: Reference,
  options: ResolveOptions,
  warnings: string[],
): Promise<Content> {
  const { images } = deps;
  const name = formatReference(reference);
  if (reference.digest !== undefined) return await localOrFetch(deps, origin, reference.digest, name, options);
  const known = origin.remote ? images.get(name)?.descriptor : undefined;
  const knownContent = known === undefined ? undefined : await deps.content.local(known.digest);
  if (options.pull !== 'always' && knownContent !== undefined) return knownContent;
  if (options.pull === 'never' && origin.remote) throw notLocal(name);
  try {
    if (reference.tag === undefined && origin.resolveDefault !== undefined) {
      return await deps.content.manifest(origin, (await origin.resolveDefault()).digest, options);
    }
    const found = await askForTag(deps, origin, reference.tag ?? 'latest', knownContent, options.signal);
    if (origin.remote) images.put(name, found.descriptor);
    return found;
  } catch (error) {
    options.signal?.throwIfAborted();
    if (knownContent === undefined || known === undefined || !isUnreachable(error)) throw error;
    warnings.push(
      `the registry could not be asked about ${name} (${errorMessage(error)}): using what it was before, ${known.digest}`,
    );
    return knownContent;
  }
}

/** One HEAD when the node has a candidate, else one GET: never both for an image that has not changed. */
async function askForTag(
  deps: ResolveDeps,
  origin: Origin,
  tag: string,
  candidate: Content | undefined,
  signal: AbortSignal | undefined,
): Promise<Content> {
  const { registry, repository } = origin;
  if (candidate !== undefined) {
    const { digest } = await registry.resolveTag(repository, tag, { signal });
    return digest === candidate.descriptor.digest ? candidate : await deps.content.manifest(origin, digest, { signal });
  }
  return await deps.content.keep(await registry.getTag(repository, tag, { signal }));
}

async function localOrFetch(
  deps: ResolveDeps,
  origin: Origin,
  digest: Digest,
  name: string,
  options: Omit<ResolveOptions, 'platform'>,
): Promise<Content> {
  const local = await deps.content.local(digest);
  if (local !== undefined) return local;
  if (options.pull === 'never' && origin.remote) throw notLocal(name);
  return await deps.content.manifest(origin, digest, options);
}

function notLocal(name: string): ImageError {
  return new ImageError('ERR_IMAGE_NOT_LOCAL', `${name} is not on this node, and --pull never forbids to ask for it`);
}

async function choosePlatform(
  deps: ResolveDeps,
  origin: Origin,
  name: string,
  top: Content,
  options: ResolveOptions,
): Promise<Content> {
  const document = parseManifestOrIndex(top.bytes, top.descriptor.mediaType);
  if (document.kind === 'manifest') return top;
  const wanted = options.platform ?? hostPlatform();
  const runnable = document.manifests.filter(isRunnable);
  const found = selectManifest(runnable, wanted);
  if (found === undefined) {
    const offered = [
      ...new Set(runnable.flatMap(({ platform }) => (platform === undefined ? [] : [formatPlatform(platform)]))),
    ];
    throw new ImageError(
      'ERR_IMAGE_PLATFORM',
      `${name} has no image for ${formatPlatform(wanted)}; it has ${offered.length > 0 ? offered.join(', ') : 'none that says its platform'}`,
    );
  }
  return await localOrFetch(deps, origin, found.digest, name, options);
}

async function readImage(
  deps: ResolveDeps,
  origin: Origin,
  name: string,
  content: Content,
  options: Omit<ResolveOptions, 'platform'>,
): Promise<Pick<ResolvedImage, 'descriptor' | 'manifest' | 'config' | 'diffIds'>> {
  const document = parseManifestOrIndex(content.bytes, content.descriptor.mediaType);
  if (document.kind !== 'manifest')
    throw new ImageError('ERR_IMAGE_UNSUPPORTED', `${name}: an image index inside an image index is not supported`);
  for (const layer of document.layers) {
    if (layerType(layer.mediaType) === undefined) {
      throw new ImageError(
        'ERR_IMAGE_UNSUPPORTED',
        `${name} is not a container image: layer ${layer.digest} has the media type ${layer.mediaType}`,
      );
    }
  }
  const local = await deps.content.local(document.config.digest);
  if (local === undefined && options.pull === 'never' && origin.remote) throw notLocal(name);
  const blob = local ?? (await deps.content.blob(origin, document.config, options));
  const config = parseConfig(blob.bytes, name);
  return {
    descriptor: { ...content.descriptor, mediaType: document.mediaType },
    manifest: document,
    config,
    diffIds: diffIdsOf(config, document, name),
  };
}

function parseConfig(bytes: Uint8Array, name: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(Buffer.from(bytes).toString('utf8'));
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  } catch {
    // Said below.
  }
  throw new ImageError('ERR_IMAGE_CONTENT', `${name}: the image config is not a JSON object`);
}

/** OCI image spec config.md, rootfs.diff_ids. */
function diffIdsOf(config: Readonly<Record<string, unknown>>, manifest: Manifest, name: string): Digest[] {
  const rootfs = config['rootfs'];
  const ids: unknown =
    typeof rootfs === 'object' && rootfs !== null && 'diff_ids' in rootfs ? rootfs.diff_ids : undefined;
  if (!Array.isArray(ids) || !ids.every((id): id is Digest => typeof id === 'string' && isDigest(id))) {
    throw new ImageError(
      'ERR_IMAGE_UNSUPPORTED',
      `${name} is not a container image: its config (${manifest.config.mediaType}) lists no diffIDs`,
    );
  }
  if (ids.length !== manifest.layers.length) {
    throw new ImageError(
      'ERR_IMAGE_CONTENT',
      `${name}: the config lists ${ids.length} diffIDs, but the manifest has ${manifest.layers.length} layers`,
    );
  }
  return ids;
}
