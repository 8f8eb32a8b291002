import type { IndexProvenance } from '../index/node-index-format.ts';
import type { OpenLayerRequest, RemoteIndex } from './layer-store.ts';

/** What the index file of a layer says of the index that it was made from. */
export function indexProvenance(
  { descriptor, diffId }: Pick<OpenLayerRequest, 'descriptor' | 'diffId'>,
  { format, digest, source }: Pick<RemoteIndex, 'format' | 'digest' | 'source'>,
): IndexProvenance {
  return { format, indexDigest: digest, source, blobDigest: descriptor.digest, diffId };
}
