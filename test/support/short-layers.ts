// Layers for tests of trees, written as one short string per entry.
import { readTar } from '../../src/tar/reader.ts';
import type { LayerEntries } from '../../src/tree/merge.ts';
import type { Tree, TreeNode } from '../../src/tree/tree.ts';
import { walk } from '../../src/tree/walk.ts';
import { byteStringFromText } from '../../src/util/byte-string.ts';
import { type Described, tarOf } from './tar-members.ts';

/** `a/` directory, `a` file, `a -> b` symlink, `a = b` hard link. */
export type Short = string | Described;

export function describeShort(short: Short): Described {
  if (typeof short !== 'string') return short;
  const [path = '', arrow, link] = short.split(/ (->|=) /);
  if (arrow === '->') return { path, type: 'symlink', link: link ?? '' };
  if (arrow === '=') return { path, type: 'hardlink', link: link ?? '' };
  return path.endsWith('/') ? { path, type: 'dir' } : { path, data: path };
}

export function shortLayer(layer: readonly Short[]): LayerEntries {
  const tar = tarOf(...layer.map(describeShort));
  return { entries: readTar(tar), streamSize: tar.length };
}

/** The node at exactly this path. */
export function nodeAt(tree: Tree, path: string): TreeNode {
  for (const step of walk(tree)) if (step.path === byteStringFromText(path)) return step.node;
  throw new Error(`no ${path}`);
}
