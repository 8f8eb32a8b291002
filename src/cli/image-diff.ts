// What changed from one image to another. Bytes are only fetched where the trees cannot tell: same size, other layer.
import type { Image } from '../image/image.ts';
import type { TreeNode } from '../tree/tree.ts';
import type { ByteString } from '../util/byte-string.ts';
import { joinPath } from './image-path.ts';
import { walkTree } from './walk.ts';

export interface Difference {
  readonly kind: 'A' | 'M' | 'D';
  readonly path: ByteString;
  /** For M: what differs, e.g. `mode`, `content`. */
  readonly why?: string;
}

interface Comparison {
  readonly older: Image;
  readonly newer: Image;
  readonly quick: boolean;
  readonly signal: AbortSignal;
}

const chunkSize = 1024 * 1024;

/** In the order of the paths, directories before what is in them. */
export async function* differences(
  older: Image,
  newer: Image,
  options: { quick: boolean; signal: AbortSignal },
): AsyncGenerator<Difference> {
  const [from, to] = [await older.tree({ signal: options.signal }), await newer.tree({ signal: options.signal })];
  yield* compareDirs({ older, newer, ...options }, from.root, to.root, '/' as ByteString);
}

async function* compareDirs(
  comparison: Comparison,
  from: TreeNode,
  to: TreeNode,
  dir: ByteString,
): AsyncGenerator<Difference> {
  const names = new Set([...(from.children?.keys() ?? []), ...(to.children?.keys() ?? [])]);
  for (const name of [...names].sort()) {
    const path = joinPath(dir, name);
    const [before, after] = [from.children?.get(name), to.children?.get(name)];
    if (before && !after) yield* subtree('D', path, before);
    else if (after && !before) yield* subtree('A', path, after);
    else if (before && after) {
      const why = await changed(comparison, before, after);
      if (why !== undefined) yield { kind: 'M', path, why };
      if (before.children && after.children) yield* compareDirs(comparison, before, after, path);
      else if (before.children) for (const entry of walkTree(before, path)) yield { kind: 'D', path: entry.path };
      else if (after.children) for (const entry of walkTree(after, path)) yield { kind: 'A', path: entry.path };
    }
  }
}

function* subtree(kind: 'A' | 'D', path: ByteString, node: TreeNode): Generator<Difference> {
  yield { kind, path };
  for (const entry of walkTree(node, path)) yield { kind, path: entry.path };
}

async function changed(comparison: Comparison, before: TreeNode, after: TreeNode): Promise<string | undefined> {
  if (before.type !== after.type) return 'type';
  if (before.mode !== after.mode) return 'mode';
  if (before.uid !== after.uid || before.gid !== after.gid) return 'owner';
  if (before.link !== after.link) return 'target';
  if (before.devMajor !== after.devMajor || before.devMinor !== after.devMinor) return 'device';
  if (!sameXattrs(before, after)) return 'xattrs';
  if (before.type !== 'file') return undefined;
  if (before.size !== after.size) return 'size';
  return (await sameContent(comparison, before, after)) ? undefined : 'content';
}

function sameXattrs(before: TreeNode, after: TreeNode): boolean {
  if (before.xattrs.size !== after.xattrs.size) return false;
  return [...before.xattrs].every(([name, value]) => {
    const other = after.xattrs.get(name);
    return other !== undefined && Buffer.compare(value, other) === 0;
  });
}

async function sameContent(comparison: Comparison, before: TreeNode, after: TreeNode): Promise<boolean> {
  const { older, newer, quick, signal } = comparison;
  if (before.size === 0 || place(older, before) === place(newer, after)) return true;
  if (quick && before.mtime === after.mtime && before.mtimeNs === after.mtimeNs) return true;
  for (let offset = 0; offset < before.size; offset += chunkSize) {
    signal.throwIfAborted();
    const [a, b] = await Promise.all([
      older.read(before, offset, chunkSize, { signal }),
      newer.read(after, offset, chunkSize, { signal }),
    ]);
    if (Buffer.compare(a, b) !== 0) return false;
  }
  return true;
}

/** Two files at the same place of the same layers are the same bytes. */
function place(image: Image, node: TreeNode): string {
  return node.extents
    .map(({ layer, fileOffset, streamOffset, size }) =>
      [image.manifest.layers[layer]?.digest, fileOffset, streamOffset, size].join(','),
    )
    .join(';');
}
