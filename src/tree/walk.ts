import type { ByteString } from '../util/byte-string.ts';
import { isDirectory } from './node.ts';
import type { Tree, TreeNode } from './tree.ts';

export interface WalkStep {
  /** Relative to the starting node; empty for itself. */
  readonly path: ByteString;
  readonly node: TreeNode;
}

/**
 * Every name at and below `start` (default: the root), parents before children, names in unsigned-byte order. A hard
 * linked file comes once per name.
 */
export function* walk(tree: Tree, start: TreeNode = tree.root): Generator<WalkStep, void, undefined> {
  const todo: WalkStep[] = [{ path: '' as ByteString, node: start }];
  for (let step = todo.pop(); step !== undefined; step = todo.pop()) {
    yield step;
    if (!isDirectory(step.node)) continue;
    const { children } = step.node;
    const prefix = step.path === '' ? '' : `${step.path}/`;
    const names = [...children.keys()].sort();
    for (let i = names.length - 1; i >= 0; i--) {
      const name = names[i] as ByteString;
      todo.push({ path: `${prefix}${name}` as ByteString, node: children.get(name) as TreeNode });
    }
  }
}
