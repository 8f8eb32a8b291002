import type { ByteString } from '../util/byte-string.ts';
import { MergedTree } from './merge-target.ts';
import { type DirectoryNode, isDirectory, newDirectory } from './node.ts';
import type { TreeNode } from './tree.ts';

/** What a directory of this layer covers. A directory without it covers nothing. */
interface Cover {
  readonly lower: DirectoryNode;
  /** An entry of this layer gave it its attributes; until then it is a copy of the lower one. */
  described: boolean;
  /** Names of `lower` that whiteouts of this layer delete. */
  hidden: Set<ByteString> | undefined;
  /** Nothing of `lower` shows through. */
  cleared: boolean;
}

/** What overlayfs has to be told of a directory. */
export interface StackedDirectory {
  readonly node: DirectoryNode;
  /** Lower directories of the same path do not show through. */
  readonly opaque: boolean;
  /** Names of lower layers that are gone, and that this layer does not bring anew. */
  readonly whiteouts: readonly ByteString[];
}

/**
 * One layer over the tree of those below, the way overlayfs has its upper directory over the lower ones: the lower tree is only
 * read, and a directory of it is copied when something happens in it.
 */
export class UpperLayer extends MergedTree {
  readonly #covers = new Map<DirectoryNode, Cover>();

  constructor(below: DirectoryNode) {
    super(newDirectory());
    this.#cover(this.root, below);
  }

  override child(dir: DirectoryNode, name: ByteString): TreeNode | undefined {
    const own = dir.children.get(name);
    if (own !== undefined) return own;
    const cover = this.#covers.get(dir);
    if (cover === undefined || cover.cleared || cover.hidden?.has(name) === true) return undefined;
    const lower = cover.lower.children.get(name);
    if (lower === undefined || !isDirectory(lower)) return lower;
    const copy = Object.assign(newDirectory(), attributesOf(lower));
    this.#cover(copy, lower);
    dir.children.set(name, copy);
    return copy;
  }

  override describes(dir: DirectoryNode): void {
    const cover = this.#covers.get(dir);
    if (cover !== undefined) cover.described = true;
  }

  override hide(dir: DirectoryNode, name: ByteString): void {
    super.hide(dir, name);
    const cover = this.#covers.get(dir);
    if (cover?.lower.children.has(name) === true) (cover.hidden ??= new Set()).add(name);
  }

  override hideAll(dir: DirectoryNode): void {
    super.hideAll(dir);
    const cover = this.#covers.get(dir);
    if (cover !== undefined) cover.cleared = true;
  }

  /**
   * Lets go of copies in which nothing happened after all, and tells of every directory that is left what is hidden in it. The root
   * cannot be opaque: overlayfs does not look there.
   */
  finish(): StackedDirectory[] {
    const found: StackedDirectory[] = [];
    const places = [{ node: this.root, above: undefined as DirectoryNode | undefined, name: '' as ByteString }];
    for (const { node } of places) {
      for (const [name, child] of node.children)
        if (isDirectory(child)) places.push({ node: child, above: node, name });
    }
    for (let place = places.pop(); place !== undefined; place = places.pop()) {
      const { node, above, name } = place;
      const cover = this.#covers.get(node);
      const opaque = above !== undefined && (cover === undefined ? this.#covered(above, name) : cover.cleared);
      const whiteouts = opaque || cover === undefined ? [] : gone(node, cover);
      const idle = cover?.described === false && !opaque && node.children.size + whiteouts.length === 0;
      if (idle && above !== undefined) above.children.delete(name);
      else found.push({ node, opaque, whiteouts });
    }
    return found;
  }

  #cover(dir: DirectoryNode, lower: DirectoryNode): void {
    this.#covers.set(dir, { lower, described: false, hidden: undefined, cleared: false });
  }

  /** Whether a new directory at `name` would let a lower one through. */
  #covered(above: DirectoryNode, name: ByteString): boolean {
    const cover = this.#covers.get(above);
    if (cover === undefined || (cover.cleared && above !== this.root)) return false;
    const lower = cover.lower.children.get(name);
    return lower !== undefined && isDirectory(lower);
  }
}

function gone(node: DirectoryNode, { lower, cleared, hidden }: Cover): ByteString[] {
  return [...(cleared ? lower.children.keys() : (hidden ?? []))].filter((name) => !node.children.has(name));
}

function attributesOf({ mode, uid, gid, mtime, mtimeNs, xattrs }: TreeNode): Partial<TreeNode> {
  return { mode, uid, gid, mtime, mtimeNs, xattrs };
}
