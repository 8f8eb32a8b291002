import type { ByteString } from '../util/byte-string.ts';
import type { DirectoryNode } from './node.ts';
import type { TreeNode } from './tree.ts';

/** What the entries of a layer are applied to: looks like the tree of all layers so far, whatever it keeps of it. */
export interface MergeTarget {
  readonly root: DirectoryNode;
  /** What stands at `name` now, of this layer or one below. Only what this layer may change stands in `dir.children` too. */
  child(dir: DirectoryNode, name: ByteString): TreeNode | undefined;
  /** Puts `node` at `name`, in place of whatever is there. */
  put(dir: DirectoryNode, name: ByteString, node: TreeNode): void;
  /** An entry of this layer is about to say what `dir`, which is there, looks like. */
  describes(dir: DirectoryNode): void;
  /** Takes away what the layers below have at `name`; asked before anything is put. */
  hide(dir: DirectoryNode, name: ByteString): void;
  /** The same for everything in `dir`. */
  hideAll(dir: DirectoryNode): void;
}

/** The merged tree itself: a later layer changes what earlier ones left. */
export class MergedTree implements MergeTarget {
  readonly root: DirectoryNode;

  constructor(root: DirectoryNode) {
    this.root = root;
  }

  child(dir: DirectoryNode, name: ByteString): TreeNode | undefined {
    return dir.children.get(name);
  }

  put(dir: DirectoryNode, name: ByteString, node: TreeNode): void {
    dir.children.set(name, node);
  }

  describes(): void {}

  hide(dir: DirectoryNode, name: ByteString): void {
    dir.children.delete(name);
  }

  hideAll(dir: DirectoryNode): void {
    dir.children.clear();
  }
}
