import type { TreeOp } from '../../native/tree-ops.ts';
import { type DirectoryNode, isDirectory } from '../../tree/node.ts';
import { markCopied, markOpaque, type MarkSpace } from '../../tree/overlay-marks.ts';
import type { TreeNode } from '../../tree/tree.ts';
import type { ByteString } from '../../util/byte-string.ts';
import type { HiddenPlaces } from './hidden-names.ts';
import { attributesOf, type WrittenTree } from './written-tree.ts';

export interface DirectoryOptions {
  readonly tree: WrittenTree;
  readonly emit: (op: TreeOp) => void;
  /** For overlays. */
  readonly marks?: { readonly hidden: HiddenPlaces; readonly space: MarkSpace } | undefined;
}

interface Step {
  readonly dir: DirectoryNode;
  readonly path: ByteString;
  /** Nothing of the layers below shows through in it. */
  readonly closed: boolean;
  readonly rest: Iterator<[ByteString, TreeNode]>;
}

/**
 * Gives every directory its attributes, those inside it first: what happens in a directory changes its time, and may not be allowed any
 * more. Returns the directories that nobody described and that look like those below, parents first.
 */
export function describeDirectories({ tree, emit, marks }: DirectoryOptions): ByteString[] {
  const implied: ByteString[] = [];
  const copied = new Set(marks?.hidden.whiteouts.map(({ dir }) => dir));
  const enter = (dir: DirectoryNode, path: ByteString, above: boolean): Step => {
    const { described, replaces } = tree.placeOf(dir);
    const fresh = marks !== undefined && (replaces || marks.hidden.replaced.has(dir));
    const opaque = fresh || marks?.hidden.emptied.has(dir) === true;
    if (described === undefined && !above && !fresh) implied.push(path);
    if (marks !== undefined && opaque && !above) markOpaque(dir, marks.space);
    else if (marks !== undefined && copied.has(dir) && dir !== tree.root) markCopied(dir, marks.space);
    return { dir, path, closed: above || opaque, rest: dir.children.entries() };
  };
  const steps = [enter(tree.root, '' as ByteString, false)];
  for (let step = steps.at(-1); step !== undefined; step = steps.at(-1)) {
    const next = step.rest.next();
    if (next.done === true) {
      emit({ op: 'describe', path: step.path, attributes: attributesOf(step.dir) });
      steps.pop();
      continue;
    }
    const [name, child] = next.value;
    if (!isDirectory(child)) continue;
    const path = (step.path === '' ? name : `${step.path}/${name}`) as ByteString;
    steps.push(enter(child, path, step.closed));
  }
  return implied;
}
