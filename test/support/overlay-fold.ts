// What overlayfs shows of a stack of trees, in memory; as measured on Linux 6.18.
import type { Tree, TreeNode } from '../../src/tree/tree.ts';

type Directory = Tree['root'];

export interface FoldOptions {
  readonly userXattr?: boolean;
}

/** One line per name, of everything that is seen of it. `trees`: lowest first, each with extents in layer 0 of its own. */
export function foldedLines(trees: readonly Tree[], options: FoldOptions = {}): string[] {
  const prefix = options.userXattr === true ? 'user.overlay.' : 'trusted.overlay.';
  const has = (node: TreeNode, mark: string): boolean => [...node.xattrs.keys()].some((name) => name === prefix + mark);
  const layerOf = new Map<TreeNode, number>();
  trees.forEach((tree, layer) => note(tree.root, layer, layerOf));
  const visible: Visible[] = [];
  const show = (path: string, stack: readonly Directory[]): void => {
    const [top] = stack as [Directory, ...Directory[]];
    visible.push({ path, node: top, prefix, layer: undefined });
    // Only where directories are merged, or one says that it was copied up, does a listing leave whiteouts out.
    const careful = path === '' || stack.length > 1 || has(top, 'origin');
    for (const name of new Set(stack.flatMap(({ children }) => [...children.keys()]))) {
      const child = path === '' ? name : `${path}/${name}`;
      const found: Directory[] = [];
      for (const { children } of stack) {
        const node = children.get(name);
        if (node === undefined) continue;
        if (isWhiteout(node)) {
          if (!careful) visible.push({ path: child, node, prefix, layer: layerOf.get(node) });
          break;
        }
        if (node.children === undefined) {
          if (found.length === 0) visible.push({ path: child, node, prefix, layer: layerOf.get(node) });
          break;
        }
        found.push(node as Directory);
        if (has(node, 'opaque')) break;
      }
      if (found.length > 0) show(child, found);
    }
  };
  show(
    '',
    trees.toReversed().map(({ root }) => root),
  );
  return linesOf(visible);
}

/** The same lines of a merged tree. */
export function mergedLines(tree: Tree): string[] {
  const visible: Visible[] = [];
  const show = (path: string, node: TreeNode): void => {
    visible.push({ path, node, prefix: undefined, layer: undefined });
    for (const [name, child] of node.children ?? []) show(path === '' ? name : `${path}/${name}`, child);
  };
  show('', tree.root);
  return linesOf(visible);
}

interface Visible {
  readonly path: string;
  readonly node: TreeNode;
  /** Of attributes that are not seen. */
  readonly prefix: string | undefined;
  /** Of the tree that the node is from, when its extents do not say. */
  readonly layer: number | undefined;
}

function linesOf(visible: Visible[]): string[] {
  visible.sort((a, b) => (a.path < b.path ? -1 : 1));
  const first = new Map<TreeNode, string>();
  for (const { path, node } of visible) if (!first.has(node)) first.set(node, path);
  return visible.map(({ path, node, prefix, layer }) => {
    const xattrs = [...node.xattrs].filter(([name]) => prefix === undefined || !name.startsWith(prefix));
    return JSON.stringify({
      path,
      inode: first.get(node),
      type: node.type,
      // A root that the topmost layer does not describe is its caller's business.
      ...(path === '' ? {} : { mode: node.mode, owner: [node.uid, node.gid], time: [node.mtime, node.mtimeNs] }),
      size: node.size,
      device: [node.devMajor, node.devMinor],
      link: node.link,
      xattrs: path === '' ? [] : xattrs.map(([name, value]) => `${name}=${Buffer.from(value).toString('hex')}`).sort(),
      extents: node.extents.map((extent) => ({ ...extent, layer: layer ?? extent.layer })),
    });
  });
}

function note(node: TreeNode, layer: number, layerOf: Map<TreeNode, number>): void {
  layerOf.set(node, layer);
  for (const child of node.children?.values() ?? []) note(child, layer, layerOf);
}

function isWhiteout(node: TreeNode): boolean {
  return node.type === 'char' && node.devMajor === 0 && node.devMinor === 0;
}
