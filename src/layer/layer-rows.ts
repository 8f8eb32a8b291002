// What the node's table says of a layer.
import type { NodeIndex } from '../index/node-index.ts';
import type { Digest } from '../oci/digest.ts';
import type { LayerRow } from '../state/layers.ts';
import type { OpenLayerRequest } from './layer-store.ts';

type PreparedRow = Omit<LayerRow, 'usedAt' | 'suspect'>;

/** What is known of a layer before its index is open. */
export function preparedRow(
  request: Pick<OpenLayerRequest, 'descriptor' | 'diffId'>,
  from: { readonly format: LayerRow['indexFormat']; readonly indexDigest?: Digest; readonly source: string },
  reason: string,
): PreparedRow {
  const { descriptor, diffId } = request;
  const { digest, mediaType, size } = descriptor;
  return {
    digest,
    mediaType,
    size,
    diffId,
    streamSize: 0,
    indexFormat: from.format,
    indexDigest: from.indexDigest,
    indexSource: from.source,
    reason,
  };
}

/** The row of a layer whose index is open. */
export function rowOf(request: OpenLayerRequest, index: NodeIndex, reason: string | undefined): PreparedRow {
  const { format, indexDigest, source } = index.info;
  const row = preparedRow(
    request,
    { format, source },
    reason ??
      (format === 'node' ? source : `${format === 'peel' ? 'table' : 'zTOC'} of index ${indexDigest ?? 'unknown'}`),
  );
  return { ...row, indexDigest: indexDigest as Digest | undefined, streamSize: index.spans.streamSize };
}
