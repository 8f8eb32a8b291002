// From the bytes of an index that an image offers to an index of the layer.
import type { LayerIndex, SpanDecoder } from '../index/layer-index.ts';
import { readPeelTable } from '../index/peel-table-reader.ts';
import type { PeelTable } from '../index/peel-table-reader.ts';
import type { RemoteWindows } from '../index/peel-windows.ts';
import { readZtoc } from '../index/ztoc-reader.ts';
import { layerType } from '../oci/media-type.ts';
import type { Compression } from '../oci/media-type.ts';
import type { TarEntry } from '../tar/entry.ts';
import { readErofs } from '../tree/erofs-reader.ts';
import { checkExtents } from '../tree/extents.ts';
import { treeEntries } from '../tree/tree-entries.ts';
import { LayerError } from './errors.ts';
import type { ExpectedLayer, TableJob, ZtocJob } from './index-job.ts';

const decoders: Readonly<Record<Compression, SpanDecoder>> = {
  none: 'stored',
  gzip: 'gzip-checkpoint',
  zstd: 'zstd-frame',
};

export interface OfferedLayerIndex {
  readonly index: LayerIndex;
  /** Where its windows are, if not in itself. */
  readonly windows: RemoteWindows | undefined;
}

/** Errors: ERR_LAYER_INDEX when the table is for something else, IndexError and TreeError when it is malformed. */
export function tableIndex(job: TableJob): OfferedLayerIndex {
  const table = readPeelTable(job.table);
  checkLayer(table, job);
  const windows = remoteWindows(table, job);
  return { index: { entries: entriesOf(table, job), spans: table.spans }, windows };
}

/** Errors: ERR_LAYER_INDEX when the zTOC is for something else, IndexError when it is malformed. */
export function ztocIndex({ ztoc: bytes, descriptor }: ZtocJob): OfferedLayerIndex {
  const ztoc = readZtoc(bytes, { blobSize: descriptor.size });
  const gzip = descriptor.mediaType.endsWith('gzip');
  if ((ztoc.compression === 'gzip') !== gzip)
    throw misfit(`it is for compression ${ztoc.compression}, but the layer is ${descriptor.mediaType}`);
  return { index: ztoc, windows: undefined };
}

function checkLayer({ layer, diffId, spans }: PeelTable, { descriptor, diffId: told }: ExpectedLayer): void {
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
function remoteWindows({ windows }: PeelTable, { windows: blob }: TableJob): RemoteWindows | undefined {
  const size = blob?.size ?? 0;
  if (windows.size !== size) throw misfit(`its windows have ${windows.size} bytes, but the index says ${size}`);
  return blob === undefined || windows.size === 0 ? undefined : { ...windows, digest: blob.digest, from: blob.from };
}

/** Errors: TreeError. */
function entriesOf({ tree, spans }: PeelTable, { descriptor }: ExpectedLayer): readonly TarEntry[] {
  const entries = treeEntries(readErofs(tree));
  checkExtents(entries, `layer ${descriptor.digest}`, spans.streamSize);
  return entries;
}

function misfit(why: string): LayerError {
  return new LayerError('ERR_LAYER_INDEX', why);
}
