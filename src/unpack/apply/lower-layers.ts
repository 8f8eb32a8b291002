import type { HideTarget } from '../../tree/merge-target.ts';
import { type DirectoryNode, isDirectory } from '../../tree/node.ts';
import type { TreeNode } from '../../tree/tree.ts';
import type { ByteString } from '../../util/byte-string.ts';
import type { WrittenTree } from './written-tree.ts';

/**
 * What the layers below had before entries of the present layer were written among it, for whiteouts that are only known now. Right as
 * long as these entries stand in directories that the layer itself describes, and none took a directory's place.
 */
export class LowerLayers implements HideTarget {
  readonly root: DirectoryNode;
  readonly #tree: WrittenTree;
  /** Nothing of the layers below is left in these. */
  readonly #emptied = new Set<DirectoryNode>();

  constructor(tree: WrittenTree) {
    this.root = tree.root;
    this.#tree = tree;
  }

  child(dir: DirectoryNode, name: ByteString): TreeNode | undefined {
    const node = this.#tree.child(dir, name);
    return node === undefined || this.#isNew(node) ? undefined : node;
  }

  hide(dir: DirectoryNode, name: ByteString): void {
    const todo = this.#hideOne(dir, name);
    for (let inner = todo.pop(); inner !== undefined; inner = todo.pop()) {
      this.#tree.placeOf(inner).since = this.#tree.layer;
      for (const below of inner.children.keys()) todo.push(...this.#hideOne(inner, below));
    }
  }

  hideAll(dir: DirectoryNode): void {
    if (this.#emptied.has(dir)) return;
    this.#emptied.add(dir);
    for (const name of dir.children.keys()) this.hide(dir, name);
  }

  /** Returns the directory that stays, because the present layer describes it too, with what is still to be hidden in it. */
  #hideOne(dir: DirectoryNode, name: ByteString): DirectoryNode[] {
    const node = this.child(dir, name);
    if (node === undefined) return [];
    if (isDirectory(node) && this.#tree.placeOf(node).described === this.#tree.layer) return [node];
    this.#tree.hide(dir, name);
    return [];
  }

  #isNew(node: TreeNode): boolean {
    return isDirectory(node) ? this.#tree.placeOf(node).since === this.#tree.layer : this.#tree.isOwn(node);
  }
}
