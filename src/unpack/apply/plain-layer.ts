import type { TarEntry } from '../../tar/entry.ts';
import type { Whiteout } from '../../tar/whiteout.ts';
import type { LayerMerger } from '../../tree/layer-merger.ts';
import { type DirectoryNode, isDirectory } from '../../tree/node.ts';
import { descend } from '../../tree/resolve.ts';
import type { TreeNode } from '../../tree/tree.ts';
import type { ByteString } from '../../util/byte-string.ts';
import { LowerLayers } from './lower-layers.ts';
import type { WrittenTree } from './written-tree.ts';

/** An entry with its clean path. */
export interface PlacedEntry {
  readonly entry: TarEntry;
  readonly path: ByteString;
}

export interface PlacedMarker extends PlacedEntry {
  readonly marker: Whiteout;
}

/**
 * One of several layers in one directory. Its whiteouts count before its ordinary entries, wherever they stand; so what might look different
 * after a whiteout that is still to come waits for the end of the layer, with all behind it. Layers that describe the parents of what
 * they bring, and where directories stay directories, have no such entries.
 */
export class PlainLayer {
  readonly #tree: WrittenTree;
  readonly #merger: LayerMerger;
  readonly #markers: PlacedMarker[] = [];
  #late: PlacedEntry[] | undefined;

  constructor(tree: WrittenTree, merger: LayerMerger) {
    this.#tree = tree;
    this.#merger = merger;
  }

  add(entry: TarEntry, path: ByteString): void {
    if (this.#tree.layer > 0 && (this.#late !== undefined || !this.#isSettled(entry, path))) {
      (this.#late ??= []).push({ entry, path });
      return;
    }
    this.#merger.add(entry, path);
  }

  mark(entry: TarEntry, path: ByteString, marker: Whiteout): void {
    if (this.#tree.layer > 0) this.#markers.push({ entry, path, marker });
  }

  /** All entries are here. */
  end(): void {
    const late = this.#late ?? [];
    const target = new LowerLayers(this.#tree);
    let own: Set<string> | undefined;
    // A link at the path of an entry that was added is gone already.
    const isOwn = (path: string): boolean => (own ??= new Set(late.map((one) => one.path))).has(path);
    for (const { entry, path, marker } of this.#markers) this.#merger.hide(entry, path, marker, { target, isOwn });
    for (const { entry, path } of late) this.#merger.add(entry, path);
  }

  /** Whether no whiteout can change what the entry does, so that only what it covers is hidden, before or after it. */
  #isSettled(entry: TarEntry, path: ByteString): boolean {
    if (path === '') return true;
    const parent = this.#ownParent(path);
    if (parent === undefined) return false;
    const existing = nodeIn(parent, path);
    if (existing !== undefined && isDirectory(existing) && entry.type !== 'dir') return false;
    return entry.type !== 'hardlink' || this.#isOwn(this.#merger.targetOf(entry));
  }

  #isOwn(path: ByteString): boolean {
    const parent = this.#ownParent(path);
    const node = parent && nodeIn(parent, path);
    return node !== undefined && !isDirectory(node) && this.#tree.isOwn(node);
  }

  /** The directory of the clean path, when this layer describes it and those above it. */
  #ownParent(path: ByteString): DirectoryNode | undefined {
    const { root, layer } = this.#tree;
    const end = Math.max(path.lastIndexOf('/'), 0);
    const parent = descend(root, path, end, (dir, name) => dir.children.get(name));
    if (parent === undefined || parent === root) return parent;
    return this.#tree.placeOf(parent).described === layer ? parent : undefined;
  }
}

function nodeIn(parent: DirectoryNode, path: ByteString): TreeNode | undefined {
  return parent.children.get(path.slice(path.lastIndexOf('/') + 1) as ByteString);
}
