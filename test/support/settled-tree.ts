// What whoever stacks an unpacked layer owes to the directories that it does not describe.
import { type DirectoryNode, isDirectory } from '../../src/tree/node.ts';
import type { Tree, TreeNode } from '../../src/tree/tree.ts';
import type { ByteString } from '../../src/util/byte-string.ts';
import type { AppliedLayers } from '../../src/unpack/apply/layer-applier.ts';

/**
 * Gives implied directories the looks they have below, and takes away those that only hide what is not there. False when one is something
 * else below: the layer cannot be stacked by itself.
 */
export function settle(tree: Tree, { implied, hiding }: AppliedLayers, below: Tree): boolean {
  const onlyHiding = new Set(hiding);
  for (const path of implied) {
    const lower = straight(below, path);
    const node = straight(tree, path);
    if (lower !== undefined && !isDirectory(lower)) return false;
    if (lower !== undefined && node !== undefined) {
      const { mode, uid, gid, mtime, mtimeNs, xattrs } = lower;
      Object.assign(node, { mode, uid, gid, mtime, mtimeNs, xattrs: new Map([...xattrs, ...node.xattrs]) });
    }
    if (lower === undefined && onlyHiding.has(path)) {
      const slash = path.lastIndexOf('/');
      const parent = straight(tree, path.slice(0, Math.max(slash, 0))) as DirectoryNode | undefined;
      parent?.children.delete(path.slice(slash + 1) as ByteString);
    }
  }
  return true;
}

/** Without following links. */
function straight(tree: Tree, path: string): TreeNode | undefined {
  let node: TreeNode | undefined = tree.root;
  for (const name of path === '' ? [] : path.split('/')) node = node?.children?.get(name as ByteString);
  return node;
}
