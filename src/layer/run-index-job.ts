import { openNodeIndex } from '../index/node-index.ts';
import { encodeNodeIndex } from '../index/node-index-writer.ts';
import { errorCode, errorMessage } from './errors.ts';
import { compileTree } from '../tree/compile.ts';
import { writeErofs } from '../tree/erofs-writer.ts';
import { TreeError } from '../tree/errors.ts';
import { layerTree, rootEntry } from '../tree/layer-tree.ts';
import { lowerNodes } from '../tree/lower-node.ts';
import { type LayerEntries, mergeLayers } from '../tree/merge.ts';
import type { Tree } from '../tree/tree.ts';
import {
  type CompiledTree,
  type FoundNodes,
  type IndexedLayer,
  type LayerJob,
  type LookJob,
  treeBlockSize,
  type IndexJob,
  type IndexJobFailure,
  type IndexJobResult,
  type MergedJob,
  type PreparedIndex,
  type PrepareJob,
  type TreePlace,
} from './index-job.ts';
import { tableIndex, ztocIndex } from './offered-index.ts';

/**
 * Errors: TreeError, IndexError, ERR_LAYER_INDEX for an index of something else, those of the file system, Error when an index file is another
 * one than asked for.
 */
export async function runIndexJob<J extends IndexJob>(job: J): Promise<IndexJobResult<J>>;
export async function runIndexJob(job: IndexJob): Promise<IndexJobResult> {
  switch (job.kind) {
    case 'table':
    case 'ztoc':
      return await prepared(job);
    case 'look':
      return await lookedAt(job);
    default:
      return await compiled(job);
  }
}

async function compiled(job: MergedJob | LayerJob): Promise<CompiledTree> {
  if (job.kind === 'merged') {
    const layers = await entriesOf(job.layers);
    const { image } = compileTree(layers, { blockSize: treeBlockSize });
    return { image: owned(image), root: undefined, below: undefined };
  }
  const layer = await readEntries(job.layer);
  const { tree, below } = await treeOf(layer, job);
  return compiledTree(layer, tree, below);
}

function compiledTree({ entries }: LayerEntries, tree: Tree, below: string | undefined): CompiledTree {
  const image = writeErofs(tree, { blockSize: treeBlockSize });
  const root = rootEntry(entries);
  return { image: owned(image), root: root && { mode: root.mode, uid: root.uid, gid: root.gid }, below };
}

async function prepared(job: PrepareJob): Promise<PreparedIndex> {
  const { index, windows } = job.kind === 'table' ? tableIndex(job) : ztocIndex(job);
  const { pieces, fingerprint, size } = await encodeNodeIndex(index, job.provenance, { windows });
  const file = new Uint8Array(size);
  let at = 0;
  for (const piece of pieces) {
    file.set(piece, at);
    at += piece.length;
  }
  const layer = { entries: index.entries, streamSize: index.spans.streamSize };
  return { file, fingerprint, tree: job.tree && treeAhead(layer, job.tree) };
}

/** Why there is none is said when somebody asks for it. */
function treeAhead(layer: LayerEntries, { base, userXattr }: TreePlace): CompiledTree | undefined {
  try {
    const tree = layerTree(layer, { below: base ? 'nothing' : 'unknown', userXattr });
    return compiledTree(layer, tree, undefined);
  } catch (error) {
    if (error instanceof TreeError) return undefined;
    throw error;
  }
}

async function lookedAt(job: LookJob): Promise<FoundNodes> {
  const layer = await readEntries(job.layer);
  const { tree } = await treeOf(layer, job);
  const found = lowerNodes(tree, job.paths, job);
  if (rootEntry(layer.entries) !== undefined) return found;
  return found.map((node, i) => (job.paths[i] === '' && node?.kind === 'directory' ? undescribed(node) : node));
}

function undescribed<T extends object>(directory: T): T & { readonly attributes: undefined } {
  return { ...directory, attributes: undefined };
}

/** Buffer.alloc() takes no part of a buffer that others use. */
function owned(image: Buffer): Uint8Array<ArrayBuffer> {
  return image as Buffer<ArrayBuffer>;
}

export function failureOf(error: unknown): IndexJobFailure {
  return { code: errorCode(error), message: errorMessage(error) };
}

async function treeOf(
  layer: LayerEntries,
  { below, base, userXattr }: Omit<LayerJob, 'kind'>,
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
