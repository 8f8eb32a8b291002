// What a remote snapshotter is told of a layer (containerd pkg/snapshotters/annotations.go): with these it can mount it without its blob.
import type { Descriptor } from '../../oci/descriptor.ts';
import type { Digest } from '../../oci/digest.ts';
import { isLabel, maxLabelBytes } from '../containerd/content.ts';
import type { Labels } from '../layer-provider.ts';

/** Of annotations and labels that are handed on to a snapshotter. */
const inheritedPrefix = 'containerd.io/snapshot/';
const layersLabel = 'containerd.io/snapshot/cri.image-layers';

export interface LayerInImage {
  /** In full. */
  readonly reference: string;
  readonly manifest: Digest;
  /** Of the whole image, lowest first. */
  readonly layers: readonly Descriptor[];
  readonly chainIds: readonly Digest[];
  /** Which of the layers. */
  readonly position: number;
  /** The SOCI index to use, whatever the snapshotter would find. */
  readonly index: Digest | undefined;
}

export function snapshotLabels({ reference, manifest, layers, chainIds, position, index }: LayerInImage): Labels {
  const layer = layers[position];
  const chainId = chainIds[position];
  if (layer === undefined || chainId === undefined) throw new RangeError(`the image has no layer ${position}`);
  const told = Object.entries(layer.annotations ?? {});
  return {
    ...Object.fromEntries(told.filter(([key, value]) => key.startsWith(inheritedPrefix) && isLabel(key, value))),
    'containerd.io/snapshot/cri.image-ref': reference,
    'containerd.io/snapshot/cri.manifest-digest': manifest,
    'containerd.io/snapshot/cri.layer-digest': layer.digest,
    [layersLabel]: firstDigests(layers.slice(position)),
    ...(index === undefined ? {} : { 'containerd.io/snapshot/remote/soci.index.digest': index }),
    'containerd.io/snapshot.ref': chainId,
  };
}

/** As many as a label holds. */
function firstDigests(layers: readonly Descriptor[]): string {
  const room = maxLabelBytes - layersLabel.length;
  let list = '';
  for (const { digest } of layers) {
    const longer = list === '' ? digest : `${list},${digest}`;
    if (longer.length > room) break;
    list = longer;
  }
  return list;
}
