import type { ByteString } from '../util/byte-string.ts';
import { resolvePath } from './resolve.ts';
import type { Tree, TreeNode } from './tree.ts';

/** What the kernel follows before ELOOP. */
const maxLinks = 40;

export interface LookupOptions {
  /** Whether a symbolic link in the last place is followed (stat) or is the answer (lstat); default true. */
  readonly follow?: boolean;
}

/**
 * The node at `path`, absolute or not, with links followed as for a process whose root directory is the tree's root;
 * undefined when there is none.
 * Errors: ERR_TREE_LOOP.
 */
export function lookup(tree: Tree, path: ByteString, options: LookupOptions = {}): TreeNode | undefined {
  return resolvePath(tree.root, path, { maxLinks, followLast: options.follow ?? true });
}
