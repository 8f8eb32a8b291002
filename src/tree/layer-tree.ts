// One layer as a tree that overlayfs can stack on those below (Linux, Documentation/filesystems/overlayfs.rst).
import type { TarEntry } from '../tar/entry.ts';
import { type ByteString, displayBytes } from '../util/byte-string.ts';
import { TreeError } from './errors.ts';
import { checkExtents } from './extents.ts';
import { LayerMerger } from './layer-merger.ts';
import { countLinks, type LayerEntries, type MergeOptions, newBudget } from './merge.ts';
import { MergedTree } from './merge-target.ts';
import { type DirectoryNode, isDirectory, newDirectory, newNode } from './node.ts';
import { isWhiteout, markCopied, markOpaque, type MarkSpace, withoutMarks } from './overlay-marks.ts';
import { cleanPath } from './path.ts';
import type { Tree, TreeNode } from './tree.ts';
import { type StackedDirectory, UpperLayer } from './upper-layer.ts';
import { walk } from './walk.ts';
import { worstBelow } from './worst-below.ts';

export interface LayerTreeOptions extends MergeOptions {
  /**
   * - a tree: the layers below, merged. It is only read.
   * - `nothing`: this is the lowest layer. Its tree has nothing that only an overlay hides, so it can also be shown by itself.
   * - `unknown`: the result serves over any layers.
   */
  readonly below: Tree | 'nothing' | 'unknown';
  /** For an overlay with `userxattr`: marks are in `user.overlay.` instead of `trusted.overlay.`. */
  readonly userXattr?: boolean | undefined;
}

const layerName = 'the layer';

/**
 * The tree of one layer: overlayfs, stacking it on the trees of the layers below, shows what `mergeLayers` gives for all of them.
 * What the layer hides is a character device 0:0 or an opaque directory. A parent directory that it does not bring looks like the one
 * below, and where that is a symbolic link, entries go where it leads. Attributes that would steer overlayfs are dropped. Extents name
 * layer 0.
 * Errors: TreeError as of `mergeLayers`; ERR_TREE_LOWER_LINK and ERR_TREE_DEVICE for what cannot be had this way; with `below: 'unknown'`
 * ERR_TREE_BELOW when the tree depends on the layers below.
 */
export function layerTree({ entries, streamSize }: LayerEntries, options: LayerTreeOptions): Tree {
  checkExtents(entries, layerName, streamSize ?? Infinity);
  const { root, stacked } = applied(entries, options);
  const tree: Tree = { root, layers: 1 };
  const space = options.userXattr === true ? 'user' : 'trusted';
  prepareNodes(tree, space, newBudget(options).nodes);
  markDirectories(stacked, root, space);
  countLinks(root);
  return tree;
}

/** The entry that says what the directory `/` looks like; undefined when none does. */
export function rootEntry(entries: readonly TarEntry[]): TarEntry | undefined {
  return entries.findLast(({ type, path }) => type === 'dir' && cleanPath(path, () => displayBytes(path)) === '');
}

function applied(
  entries: readonly TarEntry[],
  options: LayerTreeOptions,
): { root: DirectoryNode; stacked: readonly StackedDirectory[] } {
  const budget = newBudget(options);
  const { below } = options;
  if (below === 'nothing') {
    const root = newDirectory();
    new LayerMerger(new MergedTree(root), 0, budget, layerName).apply(entries);
    return { root, stacked: [] };
  }
  const target = new UpperLayer(below === 'unknown' ? worstBelow(entries, layerName) : below.root);
  try {
    new LayerMerger(target, 0, budget, layerName).apply(entries);
  } catch (cause) {
    // What it links to may be below; also a file of this layer, by a name that leads through a link below.
    if (below !== 'unknown' || !(cause instanceof TreeError) || cause.code !== 'ERR_TREE_HARDLINK') throw cause;
    throw new TreeError('ERR_TREE_BELOW', cause.message, { cause });
  }
  return { root: target.root, stacked: target.finish() };
}

/** Errors: ERR_TREE_LIMIT, as copies of lower directories count too; ERR_TREE_DEVICE. */
function prepareNodes(tree: Tree, space: MarkSpace, maxNodes: number): void {
  let left = maxNodes;
  const todo: TreeNode[] = [tree.root];
  for (let node = todo.pop(); node !== undefined; node = todo.pop()) {
    if (left-- < 0) throw new TreeError('ERR_TREE_LIMIT', `${layerName} has more files and directories than the limit`);
    if (isWhiteout(node)) throw whiteoutDevice(tree, node);
    node.xattrs = withoutMarks(node.xattrs, space);
    if (isDirectory(node)) for (const child of node.children.values()) todo.push(child);
  }
}

function whiteoutDevice(tree: Tree, device: TreeNode): TreeError {
  const path = [...walk(tree)].find(({ node }) => node === device)?.path ?? ('' as ByteString);
  const detail = 'is the character device 0:0, which overlayfs takes for a deleted file';
  return new TreeError('ERR_TREE_DEVICE', `${displayBytes(path)} of ${layerName} ${detail}`);
}

function markDirectories(stacked: readonly StackedDirectory[], root: TreeNode, space: MarkSpace): void {
  const whiteout = newNode('char', 0);
  for (const { node, opaque, whiteouts } of stacked) {
    for (const name of whiteouts) node.children.set(name, whiteout);
    if (opaque) markOpaque(node, space);
    else if (whiteouts.length > 0 && node !== root) markCopied(node, space);
  }
}
