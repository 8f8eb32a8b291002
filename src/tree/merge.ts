import type { TarEntry } from '../tar/entry.ts';
import { checkExtents } from './extents.ts';
import { LayerMerger, type MergeBudget } from './layer-merger.ts';
import { MergedTree } from './merge-target.ts';
import { type DirectoryNode, isDirectory, newDirectory } from './node.ts';
import type { Tree } from './tree.ts';

export interface LayerEntries {
  /** In archive order. */
  readonly entries: readonly TarEntry[];
  /** Bytes of the layer stream; without it, data past the stream are not noticed. */
  readonly streamSize?: number | undefined;
}

export interface MergeOptions {
  /** Most nodes, parents that no entry describes included; default 16 million. */
  readonly maxNodes?: number;
}

/**
 * One tree from the layers of an image, lowest first, as applying them one after the other would leave it: a later entry
 * replaces an earlier one of the same path, a directory over a directory keeps the children, whiteouts and opaque markers
 * delete what lower layers have and nothing of their own layer, wherever in the layer they stand (OCI image-spec, layer.md).
 * Parents that are symbolic links are followed inside the tree. A hard link keeps the attributes of what it links to.
 * Extents are kept as they are, with the layer's position. Names are relative to the image's root.
 * Errors: TreeError, naming the entry and the layer; nothing is left half accepted.
 */
export function mergeLayers(layers: readonly LayerEntries[], options: MergeOptions = {}): Tree {
  const root = newDirectory();
  const target = new MergedTree(root);
  const budget = newBudget(options);
  layers.forEach(({ entries, streamSize }, layer) => {
    const name = `layer ${layer}`;
    checkExtents(entries, name, streamSize ?? Infinity);
    new LayerMerger(target, layer, budget, name).apply(entries);
  });
  countLinks(root);
  return { root, layers: layers.length };
}

export function newBudget(options: MergeOptions): MergeBudget {
  return { nodes: options.maxNodes ?? 16_000_000, linkBytes: 64 * 1024 * 1024 };
}

/** Fills in how many names each node has. */
export function countLinks(root: DirectoryNode): void {
  const todo: DirectoryNode[] = [root];
  root.nlink = 2;
  for (let dir = todo.pop(); dir !== undefined; dir = todo.pop()) {
    for (const child of dir.children.values()) {
      if (isDirectory(child)) {
        child.nlink = 2;
        dir.nlink++;
        todo.push(child);
      } else if (child.nlink === 0) {
        child.nlink = 1;
      } else {
        child.nlink++;
      }
    }
  }
}
