import type { ByteString } from '../util/byte-string.ts';
import { type DirectoryNode, newDirectory } from './node.ts';
import type { TreeNode } from './tree.ts';

/** A name that is there, and what it names. */
export interface NamedNode {
  readonly dir: DirectoryNode;
  readonly name: ByteString;
  readonly node: TreeNode;
}

/** What the whiteouts of a layer are applied to. */
export interface HideTarget {
  readonly root: DirectoryNode;
  /** What stands at `name` now, of this layer or one below. Only what this layer may change stands in `dir.children` too. */
  child(dir: DirectoryNode, name: ByteString): TreeNode | undefined;
  /** Takes away what the layers below have at `name`; asked before anything is put. */
  hide(dir: DirectoryNode, name: ByteString): void;
  /** The same for everything in `dir`. */
  hideAll(dir: DirectoryNode): void;
}

/** What the entries of a layer are applied to: looks like the tree of all layers so far, whatever it keeps of it. */
export interface MergeTarget extends HideTarget {
  /** Puts `node` at `name`, in place of whatever is there. */
  put(dir: DirectoryNode, name: ByteString, node: TreeNode): void;
  /** Gives `existing`, which is no directory, another name, in place of whatever is there. */
  link(dir: DirectoryNode, name: ByteString, existing: NamedNode): void;
  /** Makes a directory on the way to an entry, where nothing is. */
  imply(dir: DirectoryNode, name: ByteString): DirectoryNode;
  /** An entry of this layer is about to say what `dir`, which is there, looks like. */
  describes(dir: DirectoryNode): void;
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

  link(dir: DirectoryNode, name: ByteString, { node }: NamedNode): void {
    dir.children.set(name, node);
  }

  imply(dir: DirectoryNode, name: ByteString): DirectoryNode {
    const made = newDirectory();
    dir.children.set(name, made);
    return made;
  }

  describes(_dir: DirectoryNode): void {}

  hide(dir: DirectoryNode, name: ByteString): void {
    dir.children.delete(name);
  }

  hideAll(dir: DirectoryNode): void {
    dir.children.clear();
  }
}
