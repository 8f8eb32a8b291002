// Reference → an image whose layers are open: resolve, find its index, open the layers in parallel.
import { setMaxListeners } from 'node:events';
import { errorMessage } from '../layer/errors.ts';
import { RegistryError } from '../registry/errors.ts';
import type { LayerStore, OpenLayerRequest } from '../layer/layer-store.ts';
import type { Layer } from '../layer/layer.ts';
import { fetchSlots } from '../layer/permits.ts';
import type { Logger } from '../observe/log.ts';
import { isDigest } from '../oci/digest.ts';
import type { Digest } from '../oci/digest.ts';
import { parseReference } from '../oci/reference.ts';
import type { State } from '../state/state.ts';
import type { ContentFetcher } from './content.ts';
import { ImageError } from './errors.ts';
import type { IndexMode, OpenImageOptions } from './image.ts';
import type { IndexChoice } from './index-choice.ts';
import { IndexFinder } from './index-finder.ts';
import type { Discovery } from './index-finder.ts';
import { allFormats, isFormatOn, switchedOff } from './index-formats.ts';
import type { IndexFormats } from './index-formats.ts';
import { imageSource } from './known-source.ts';
import { LoadedImage } from './loaded-image.ts';
import { offeredIndex } from './offered-index.ts';
import { countedLayers } from './counted-layers.ts';
import type { OpenOrigin, Origin } from './origin.ts';
import { ProfileFinder } from './profile-finder.ts';
import { imageErrorFrom } from './registry-errors.ts';
import { resolveImage } from './resolve.ts';
import type { ResolvedImage } from './resolve.ts';
import type { TreeBuilder } from './tree-builder.ts';
import { unlessFull } from '../state/unless-full.ts';

export interface IndexPolicy {
  readonly formats: IndexFormats;
  readonly choice: IndexChoice;
}

export interface OpenImageDeps {
  readonly openOrigin: OpenOrigin;
  readonly state: State;
  readonly content: ContentFetcher;
  readonly layers: LayerStore;
  readonly trees: TreeBuilder;
  readonly log: Logger;
  /** Where the layers' reads are told of; default the log of the layer store. */
  readonly layerLog?: Logger | undefined;
  /** Requests for one image at once. */
  readonly downloadsPerImage: number;
  /** Which indexes may be looked for and which of several is taken; default: all, the newest. */
  readonly indexes?: IndexPolicy | undefined;
}

/** Errors: ImageError with the reference in its message; OciError when it is no reference; the signal's reason. */
export async function openImage(
  reference: string,
  deps: OpenImageDeps,
  options: OpenImageOptions = {},
): Promise<LoadedImage> {
  const parsed = parseReference(reference);
  const { signal } = options;
  const mode = options.index ?? 'auto';
  const origin = await openOrigin(deps, reference);
  const image = await resolveImage({ images: deps.state.images, content: deps.content }, origin, parsed, {
    platform: options.platform,
    pull: options.pull ?? 'always',
    signal,
  });
  const warnings = [...image.warnings];
  let discovery: Promise<Discovery> | undefined;
  const ask = discoverer(deps, origin, image, mode, warnings, signal);
  const discover = () => (discovery = ask());
  // Who insists on an index wants to know before anything is downloaded, and also when nothing has to be.
  if (mode !== 'auto' && mode !== 'never') await discover();
  const layers = await openLayers(deps, origin, image, discover, warnings, options);
  const digests = image.manifest.layers.map((layer) => layer.digest);
  // An image that is here is served also while nothing more fits on the disk.
  unlessFull(() => {
    deps.state.layers.touch(digests);
    // Whoever mends a layer later has no image at hand.
    if (parsed.kind === 'registry') deps.state.layerSources.put(digests, image.reference);
  });
  return new LoadedImage({
    reference: image.reference,
    digest: image.descriptor.digest,
    manifest: image.manifest,
    config: image.config,
    warnings,
    layers,
    trees: deps.trees,
    findProfile: async (open, { onWarning, signal: stop }) =>
      await new ProfileFinder({ profiles: deps.state.profiles, content: deps.content }).find({
        origin,
        image: image.descriptor.digest,
        layers: countedLayers(open.filter(({ complete }) => !complete)),
        listed: (await discovery)?.listed(),
        onWarning,
        signal: stop,
      }),
  });
}

export async function openOrigin(deps: Pick<OpenImageDeps, 'openOrigin'>, reference: string): Promise<Origin> {
  try {
    return await deps.openOrigin(parseReference(reference));
  } catch (error) {
    throw imageErrorFrom(error, reference);
  }
}

/** Looks for the image's index once, when the first layer asks: an image whose layers are all known here asks nobody. */
export function discoverer(
  deps: OpenImageDeps,
  origin: Origin,
  image: ResolvedImage,
  mode: NonNullable<OpenImageOptions['index']>,
  warnings: string[],
  signal: AbortSignal | undefined,
): () => Promise<Discovery> {
  let found: Promise<Discovery> | undefined;
  const onWarning = (warning: string) => void warnings.push(warning);
  const find = () =>
    new IndexFinder(deps.state.indexes, deps.content).find(origin, image, { ...deps.indexes, mode, onWarning, signal });
  return () => {
    found ??= find();
    return found;
  };
}

async function openLayers(
  deps: OpenImageDeps,
  origin: Origin,
  image: ResolvedImage,
  discover: () => Promise<Discovery>,
  warnings: string[],
  options: OpenImageOptions,
): Promise<Layer[]> {
  const slots = fetchSlots(deps.downloadsPerImage);
  // One layer that fails ends the downloads of the others.
  const failing = new AbortController();
  const signal = options.signal === undefined ? failing.signal : AbortSignal.any([options.signal, failing.signal]);
  // Every layer listens to it.
  setMaxListeners(0, signal);
  const opening = new Map<Digest, Promise<Layer>>();
  const { layers } = image.manifest;
  for (const [i, descriptor] of layers.entries()) {
    const diffId = image.diffIds[i];
    if (diffId === undefined || opening.has(descriptor.digest)) continue;
    const layer = openLayer(deps, options.index, {
      descriptor,
      diffId,
      source: imageSource({ sources: deps.state.layerSources, openOrigin: deps.openOrigin }, origin, descriptor),
      indexRequired: options.index === 'require' || isDigest(options.index ?? ''),
      findIndex: async (attempt) => offeredIndex(deps, origin, descriptor, await discover(), attempt),
      slots,
      signal,
      log: deps.layerLog,
      onProgress: options.onProgress,
      onWarning: (message) => warnings.push(message),
    });
    layer.catch((error: unknown) => failing.abort(error));
    opening.set(descriptor.digest, layer);
  }
  const settled = await Promise.allSettled(opening.values());
  const failed = failing.signal.aborted;
  if (failed) {
    await Promise.all(
      settled.map(async (each) => (each.status === 'fulfilled' ? await each.value.close() : undefined)),
    );
    options.signal?.throwIfAborted();
    throw layerFailure(failing.signal.reason, image.reference);
  }
  return await Promise.all(layers.map(async ({ digest }) => (await opening.get(digest)) as Layer));
}

async function openLayer(
  { layers, state, indexes }: OpenImageDeps,
  mode: IndexMode = 'auto',
  request: OpenLayerRequest,
): Promise<Layer> {
  const formats = formatsFor(mode, indexes);
  if (switchedOff(formats).length === 0) return await layers.open({ ...request, accepts: acceptance(mode) });
  const known = state.layers.get(request.descriptor.digest);
  const ready = known?.suspect === undefined ? await layers.openIfReady(request) : undefined;
  if (ready !== undefined && isServable(ready, formats)) return ready;
  await ready?.close();
  return await layers.open({ ...request, accepts: ({ format }) => isFormatOn(formats, format) });
}

/** An index that is named, or that there must be none, leaves nothing to choose. */
export function formatsFor(mode: IndexMode, policy: IndexPolicy | undefined): IndexFormats {
  return policy === undefined || mode === 'never' || isDigest(mode) ? allFormats : policy.formats;
}

/** What is all here needs no index any more. */
export function isServable({ complete, row }: Layer, formats: IndexFormats): boolean {
  return complete || isFormatOn(formats, row.indexFormat);
}

/** Without any index means without one that was published, also when an earlier mount took it. */
function acceptance(mode: IndexMode | undefined): OpenLayerRequest['accepts'] {
  if (mode === 'never') return ({ format }) => format === 'node';
  if (mode === undefined || !isDigest(mode)) return undefined;
  return ({ format, indexDigest }) => format === 'node' || indexDigest === mode;
}

export function layerFailure(error: unknown, reference: string): unknown {
  if (!(error instanceof RegistryError) && !(error instanceof ImageError))
    return new ImageError('ERR_IMAGE_LAYER', `${reference}: ${errorMessage(error)}`, { cause: error });
  return imageErrorFrom(error, reference);
}
