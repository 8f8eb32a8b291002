// Walking a path through a tree the way a process with the tree as its root directory would: symbolic links, absolute or
// with `..`, never leave it.
import { type ByteString, displayBytes } from '../util/byte-string.ts';
import { TreeError } from './errors.ts';
import { type DirectoryNode, isDirectory } from './node.ts';
import type { TreeNode } from './tree.ts';

export interface ResolveOptions {
  /** Symbolic links followed before ERR_TREE_LOOP. */
  readonly maxLinks: number;
  /** Whether a link in the last place is followed too. */
  readonly followLast: boolean;
  /** What stands at a name; default: what the directory's own map says. */
  readonly child?: (parent: DirectoryNode, name: ByteString) => TreeNode | undefined;
  /** Called for a missing name; may make it. */
  readonly onMissing?: (parent: DirectoryNode, name: ByteString) => DirectoryNode | undefined;
  /** Called before a link is followed, with a way to its path from the root; false: treat it as missing. */
  readonly onLink?: (link: TreeNode, path: () => string) => boolean;
}

interface Step {
  readonly node: DirectoryNode;
  readonly name: string;
}

/**
 * The node at `path`, or undefined when a component is missing or not a directory.
 * Errors: ERR_TREE_LOOP.
 */
export function resolvePath(root: DirectoryNode, path: string, options: ResolveOptions): TreeNode | undefined {
  const todo = path.split('/').reverse();
  const steps: Step[] = [{ node: root, name: '' }];
  const childOf = options.child ?? ((dir, name) => dir.children.get(name));
  let links = 0;
  for (;;) {
    const name = todo.pop() as ByteString | undefined;
    const here = (steps.at(-1) as Step).node;
    if (name === undefined) return here;
    if (name === '' || name === '.') continue;
    if (name === '..') {
      if (steps.length > 1) steps.pop();
      continue;
    }
    const node = childOf(here, name) ?? options.onMissing?.(here, name);
    if (node === undefined) return undefined;
    if (isDirectory(node)) {
      steps.push({ node, name });
      continue;
    }
    const last = todo.length === 0;
    if (node.type !== 'symlink') return last ? node : undefined;
    if (last && !options.followLast) return node;
    const linkPath = (): string => [...steps.slice(1).map((step) => step.name), name].join('/');
    if (options.onLink?.(node, linkPath) === false) return undefined;
    if (++links > options.maxLinks) {
      throw new TreeError('ERR_TREE_LOOP', `${displayBytes(path as ByteString)}: too many symbolic links`);
    }
    if (node.link.startsWith('/')) steps.length = 1;
    for (const part of node.link.split('/').reverse()) todo.push(part);
  }
}

/** The directory at the clean path `path[0, end)`, when every component of it is a directory; else undefined. */
export function descend(
  root: DirectoryNode,
  path: string,
  end: number,
  childOf: NonNullable<ResolveOptions['child']>,
): DirectoryNode | undefined {
  let node = root;
  for (let start = 0; start < end; ) {
    const slash = path.indexOf('/', start);
    const stop = slash === -1 || slash > end ? end : slash;
    const child = childOf(node, path.slice(start, stop) as ByteString);
    if (child === undefined || !isDirectory(child)) return undefined;
    node = child;
    start = stop + 1;
  }
  return node;
}
