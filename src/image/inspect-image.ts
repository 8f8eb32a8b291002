// What is known of an image without fetching its layers: its manifest, and how each layer is, or would be, served.
import type { RemoteIndex } from '../layer/layer-store.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import { parseReference } from '../oci/reference.ts';
import { Semaphore } from '../util/semaphore.ts';
import type { InspectedImage, LayerStatus, OpenImageOptions } from './image.ts';
import { statusOf } from './loaded-image.ts';
import { discoverer, indexOf, layerFailure, openOrigin, sourceOf } from './open-image.ts';
import type { OpenImageDeps } from './open-image.ts';
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
  const discover = discoverer(deps, origin, image, mode, warnings, signal);
  if (mode !== 'auto' && mode !== 'never') await discover();
  const slots = new Semaphore(deps.downloadsPerImage);
  const look = async (descriptor: Descriptor, diffId: Digest): Promise<LayerStatus> => {
    const findIndex = async () => indexOf(deps, origin, descriptor, await discover());
    const source = sourceOf(origin, descriptor);
    const onWarning = (message: string) => void warnings.push(message);
    const layer = await deps.layers.openIfReady({ descriptor, diffId, source, findIndex, slots, signal, onWarning });
    if (layer === undefined) return expected(descriptor, diffId, await findIndex());
    try {
      return statusOf(layer);
    } finally {
      await layer.close();
    }
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
  const rateLimit = origin.rateLimit?.();
  return { reference: image.reference, digest: image.descriptor.digest, manifest, config, warnings, layers, rateLimit };
}

/** How a layer that the node has not got would be served. */
function expected(
  descriptor: Descriptor,
  diffId: Digest,
  { index, reason }: { readonly index: RemoteIndex | undefined; readonly reason: string },
): LayerStatus {
  const unknown = { descriptor, diffId, spans: undefined, streamSize: undefined, presentSpans: 0, presentBytes: 0 };
  if (index === undefined) return { ...unknown, serving: 'whole', reason, index: undefined };
  const { format, digest, source } = index;
  const by = index.format === 'peel' ? `table ${index.table.digest}` : `zTOC ${index.ztoc.digest}`;
  return { ...unknown, serving: 'lazy', reason: by, index: { format, digest, source } };
}
