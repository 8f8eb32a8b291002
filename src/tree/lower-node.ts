// What overlayfs finds at one path of one of its lower directories.
import type { ByteString } from '../util/byte-string.ts';
import { isDirectory } from './node.ts';
import type { NodeType, Tree, TreeNode } from './tree.ts';

/** What can be said of a directory besides what is in it. */
export interface DirectoryAttributes {
  /** 07777. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Seconds since the epoch, may be negative, and nanoseconds. */
  readonly mtime: number;
  readonly mtimeNs: number;
  /** Without those that steer overlayfs. */
  readonly xattrs: ReadonlyMap<ByteString, Uint8Array>;
}

export type LowerNode =
  | {
      readonly kind: 'directory';
      /** What is further below does not show through. */
      readonly opaque: boolean;
      /** Undefined when the layer has something in the directory and does not describe it. */
      readonly attributes: DirectoryAttributes | undefined;
    }
  /** Hides what is further below. */
  | { readonly kind: 'whiteout' }
  | { readonly kind: 'other'; readonly type: Exclude<NodeType, 'dir'> };

interface MarkOptions {
  /** Overlays are mounted with `userxattr`. */
  readonly userXattr: boolean;
}

export function opaqueMark({ userXattr }: MarkOptions): ByteString {
  return `${userXattr ? 'user' : 'trusted'}.overlay.opaque` as ByteString;
}

/** Whether an attribute means something to overlayfs, and nothing to anybody else. */
export function steersOverlay(name: string, { userXattr }: MarkOptions): boolean {
  return name.startsWith('trusted.overlay.') || (userXattr && name.startsWith('user.overlay.'));
}

/** What the tree of a single layer has at the clean paths; undefined where nothing is. No link is followed. */
export function lowerNodes(tree: Tree, paths: readonly ByteString[], options: MarkOptions): (LowerNode | undefined)[] {
  return paths.map((path) => {
    const node = nodeAt(tree, path);
    return node && lowerNode(node, options);
  });
}

function nodeAt(tree: Tree, path: ByteString): TreeNode | undefined {
  let node: TreeNode | undefined = tree.root;
  for (const name of path === '' ? [] : path.split('/')) node = node?.children?.get(name as ByteString);
  return node;
}

function lowerNode(node: TreeNode, options: MarkOptions): LowerNode {
  if (!isDirectory(node)) {
    const { type, devMajor, devMinor } = node;
    if (type === 'char' && devMajor === 0 && devMinor === 0) return { kind: 'whiteout' };
    return { kind: 'other', type: type as Exclude<NodeType, 'dir'> };
  }
  const { mode, uid, gid, mtime, mtimeNs } = node;
  const opaque = node.xattrs.get(opaqueMark(options));
  const xattrs = new Map([...node.xattrs].filter(([name]) => !steersOverlay(name, options)));
  return {
    kind: 'directory',
    opaque: opaque !== undefined && Buffer.from(opaque).toString('latin1') === 'y',
    attributes: { mode, uid, gid, mtime, mtimeNs, xattrs },
  };
}
