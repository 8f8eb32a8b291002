// What is known of an image without fetching its layers: its manifest, and how each layer is, or would be, served.
import type { OfferedIndex } from '../layer/layer-store.ts';
import { contentName } from '../layer/prepare-by-index.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import { parseReference } from '../oci/reference.ts';
import { Semaphore } from '../util/semaphore.ts';
import type { IndexStatus, InspectedImage, LayerStatus, OpenImageOptions } from './image.ts';
import type { Discovery } from './index-finder.ts';
import { statusOf } from './loaded-image.ts';
import { offeredIndex } from './offered-index.ts';
import { discoverer, formatsFor, isServable, layerFailure, openOrigin } from './open-image.ts';
import type { OpenImageDeps } from './open-image.ts';
import { sourceOf } from './origin-blob.ts';
import { resolveImage } from './resolve.ts';

/** Asks the registry for manifest, config and index at most. Errors: ImageError; OciError when it is no reference; the signal's reason. */
export async function inspectImage(
  reference: string,
  deps: OpenImageDeps,
  options: OpenImageOptions = {},
): Promise<InspectedImage> {
  const { signal } = options;
  const mode = options.index ?? 'auto';
  const origin = await openOrigin(deps, reference);
  const image = await resolveImage(
    { images: deps.state.images, content: deps.content },
    origin,
    parseReference(reference),
    { platform: options.platform, pull: options.pull ?? 'always', signal },
  );
  const warnings = [...image.warnings];
  const ask = discoverer(deps, origin, image, mode, warnings, signal);
  let discovery: Discovery | undefined;
  const discover = async () => (discovery = await ask());
  if (mode !== 'auto' && mode !== 'never') await discover();
  const formats = formatsFor(mode, deps.indexes);
  const slots = new Semaphore(deps.downloadsPerImage);
  const look = async (descriptor: Descriptor, diffId: Digest): Promise<LayerStatus> => {
    const findIndex = async (attempt: number) => offeredIndex(deps, origin, descriptor, await discover(), attempt);
    const source = sourceOf(origin, descriptor);
    const onWarning = (message: string) => void warnings.push(message);
    const layer = await deps.layers.openIfReady({ descriptor, diffId, source, findIndex, slots, signal, onWarning });
    try {
      if (layer !== undefined && isServable(layer, formats)) return statusOf(layer);
    } finally {
      await layer?.close();
    }
    return expected(descriptor, diffId, await findIndex(0));
  };
  const layers: LayerStatus[] = [];
  try {
    for (const [i, diffId] of image.diffIds.entries()) {
      const descriptor = image.manifest.layers[i];
      if (descriptor !== undefined) layers.push(await look(descriptor, diffId));
    }
  } catch (error) {
    signal?.throwIfAborted();
    throw layerFailure(error, image.reference);
  }
  const { manifest, config } = image;
  return {
    reference: image.reference,
    digest: image.descriptor.digest,
    manifest,
    config,
    warnings,
    ...chosenIndex(discovery, layers),
    layers,
    rateLimit: origin.rateLimit?.(),
  };
}

/** What was found, or what the layers are served by where nothing had to be looked for. */
function chosenIndex(
  discovery: Discovery | undefined,
  layers: readonly LayerStatus[],
): Pick<InspectedImage, 'index' | 'indexReason'> {
  if (discovery !== undefined) {
    const { found, reason } = discovery;
    if (found === undefined) return { index: undefined, indexReason: reason };
    const { format, digest, source } = found;
    return { index: { format, digest, source }, indexReason: '' };
  }
  const used = mostUsed(layers.map(({ index }) => index).filter((index) => index !== undefined));
  if (used !== undefined) return { index: used, indexReason: '' };
  return {
    index: undefined,
    indexReason: 'not looked for: the node has every layer, and an index that it made itself',
  };
}

/** The one that most layers are served by; of equals the lowest layer's. */
function mostUsed(indexes: readonly IndexStatus[]): IndexStatus | undefined {
  const count = (digest: Digest | undefined) => indexes.filter((index) => index.digest === digest).length;
  let best: IndexStatus | undefined;
  for (const index of indexes) if (best === undefined || count(index.digest) > count(best.digest)) best = index;
  return best;
}

/** How a layer that the node has not got would be served. */
function expected(descriptor: Descriptor, diffId: Digest, { index, reason }: OfferedIndex): LayerStatus {
  const unknown = { descriptor, diffId, spans: undefined, streamSize: undefined, presentSpans: 0, presentBytes: 0 };
  if (index === undefined) return { ...unknown, serving: 'whole', reason, index: undefined };
  const { format, digest, source } = index;
  return { ...unknown, serving: 'lazy', reason: contentName(index), index: { format, digest, source } };
}
