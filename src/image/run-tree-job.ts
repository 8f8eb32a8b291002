import { openNodeIndex } from '../index/node-index.ts';
import { errorCode, errorMessage } from '../layer/errors.ts';
import { compileTree } from '../tree/compile.ts';
import { writeErofs } from '../tree/erofs-writer.ts';
import { TreeError } from '../tree/errors.ts';
import { layerTree, rootEntry } from '../tree/layer-tree.ts';
import { type LayerEntries, mergeLayers } from '../tree/merge.ts';
import type { Tree } from '../tree/tree.ts';
import {
  type IndexedLayer,
  type LayerJob,
  treeBlockSize,
  type TreeJob,
  type TreeJobFailure,
  type TreeJobResult,
} from './tree-job.ts';

/** Errors: TreeError, IndexError, those of the file system, Error when an index file is another one than asked for. */
export async function runTreeJob(job: TreeJob): Promise<TreeJobResult> {
  if (job.kind === 'merged') {
    const layers = await entriesOf(job.layers);
    const { image } = compileTree(layers, { blockSize: treeBlockSize });
    return { image: owned(image), root: undefined, below: undefined };
  }
  const layer = await readEntries(job.layer);
  const { tree, below } = await treeOf(layer, job);
  const image = writeErofs(tree, { blockSize: treeBlockSize });
  const root = rootEntry(layer.entries);
  return { image: owned(image), root: root && { mode: root.mode, uid: root.uid, gid: root.gid }, below };
}

/** Buffer.alloc() takes no part of a buffer that others use. */
function owned(image: Buffer): Uint8Array<ArrayBuffer> {
  return image as Buffer<ArrayBuffer>;
}

export function failureOf(error: unknown): TreeJobFailure {
  return { code: errorCode(error), message: errorMessage(error) };
}

async function treeOf(
  layer: LayerEntries,
  { below, base, userXattr }: LayerJob,
): Promise<{ tree: Tree; below: string | undefined }> {
  if (base) return { tree: layerTree(layer, { below: 'nothing', userXattr }), below: undefined };
  try {
    return { tree: layerTree(layer, { below: 'unknown', userXattr }), below: undefined };
  } catch (error) {
    if (below === undefined || !(error instanceof TreeError) || error.code !== 'ERR_TREE_BELOW') throw error;
    const merged = mergeLayers(await entriesOf(below));
    return { tree: layerTree(layer, { below: merged, userXattr }), below: error.message };
  }
}

async function entriesOf(layers: readonly IndexedLayer[]): Promise<LayerEntries[]> {
  const read: LayerEntries[] = [];
  for (const layer of layers) read.push(await readEntries(layer));
  return read;
}

async function readEntries({ index, fingerprint, streamSize }: IndexedLayer): Promise<LayerEntries> {
  const opened = await openNodeIndex(index);
  try {
    if (Buffer.compare(opened.fingerprint, fingerprint) !== 0) {
      throw new Error(`the index file ${index} was replaced by another one`);
    }
    return { entries: opened.entries, streamSize };
  } finally {
    await opened.close();
  }
}
