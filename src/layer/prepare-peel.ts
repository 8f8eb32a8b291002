import { mkdir, rm, writeFile } from 'node:fs/promises';
import type { SpanDecoder } from '../index/layer-index.ts';
import { writeNodeIndex } from '../index/node-index-writer.ts';
import { readPeelTable } from '../index/peel-table-reader.ts';
import type { PeelTable } from '../index/peel-table-reader.ts';
import type { RemoteWindows } from '../index/peel-windows.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { layerType } from '../oci/media-type.ts';
import type { Compression } from '../oci/media-type.ts';
import type { TarEntry } from '../tar/entry.ts';
import { readErofs } from '../tree/erofs-reader.ts';
import { checkExtents } from '../tree/extents.ts';
import { treeEntries } from '../tree/tree-entries.ts';
import { LayerError } from './errors.ts';
import { indexProvenance } from './index-provenance.ts';
import type { LayerPaths } from './layer-paths.ts';
import type { OpenLayerRequest, RemotePeelIndex } from './layer-store.ts';

const decoders: Readonly<Record<Compression, SpanDecoder>> = {
  none: 'stored',
  gzip: 'gzip-checkpoint',
  zstd: 'zstd-frame',
};

/**
 * Turns the table that an image offers into the layer's index file. Afterwards the layer can be read span by span; its windows come with the
 * spans, or are here already where the node had them as a whole.
 * Errors: ERR_LAYER_INDEX when it is for something else, IndexError and TreeError when it is malformed, those of `index.load` and `findWindows`.
 */
export async function prepareFromPeel(
  request: OpenLayerRequest,
  index: RemotePeelIndex,
  paths: LayerPaths,
): Promise<void> {
  const { descriptor, signal } = request;
  const finding = index.windows === undefined ? undefined : index.findWindows({ signal });
  const [bytes, frames] = await Promise.all([index.load({ signal }), finding]);
  const table = readPeelTable(bytes);
  checkLayer(table, request);
  const windows = remoteWindows(table, index);
  const entries = entriesOf(table, descriptor);
  signal?.throwIfAborted();
  await mkdir(paths.dir, { recursive: true, mode: 0o700 });
  const provenance = indexProvenance(request, index);
  try {
    // Each is verified when it is used, so a torn file does no harm.
    if (frames !== undefined && windows !== undefined) await writeFile(paths.windows, frames, { mode: 0o600 });
    await writeNodeIndex(paths.index, { entries, spans: table.spans }, provenance, { signal, windows });
  } catch (error) {
    await rm(paths.windows, { force: true });
    throw error;
  }
}

function checkLayer({ layer, diffId, spans }: PeelTable, { descriptor, diffId: told }: OpenLayerRequest): void {
  if (layer !== descriptor.digest) throw misfit(`it is for layer ${layer}`);
  if (diffId !== told) throw misfit(`it is for a layer with the diffID ${diffId}, the image config says ${told}`);
  if (spans.blobSize !== descriptor.size) {
    throw misfit(`it is for a layer of ${spans.blobSize} bytes, but the manifest says ${descriptor.size}`);
  }
  const { compression } = layerType(descriptor.mediaType) ?? {};
  if (compression === undefined || spans.decoder !== decoders[compression]) {
    throw misfit(`its spans are of kind ${spans.decoder}, but the layer is ${descriptor.mediaType}`);
  }
}

/** Undefined when no span needs a window. */
function remoteWindows(
  { windows }: PeelTable,
  { windows: blob, repository: from }: RemotePeelIndex,
): RemoteWindows | undefined {
  const size = blob?.size ?? 0;
  if (windows.size !== size) throw misfit(`its windows have ${windows.size} bytes, but the index says ${size}`);
  return blob === undefined || windows.size === 0 ? undefined : { ...windows, digest: blob.digest, from };
}

/** Errors: TreeError. */
function entriesOf({ tree, spans }: PeelTable, { digest }: Descriptor): readonly TarEntry[] {
  const entries = treeEntries(readErofs(tree));
  checkExtents(entries, `layer ${digest}`, spans.streamSize);
  return entries;
}

function misfit(why: string): LayerError {
  return new LayerError('ERR_LAYER_INDEX', why);
}
