import type { TarEntry } from '../tar/entry.ts';
import { whiteoutAt } from '../tar/whiteout.ts';
import { type ByteString, displayBytes } from '../util/byte-string.ts';
import { TreeError } from './errors.ts';
import { type DirectoryNode, newDirectory } from './node.ts';
import { cleanPath } from './path.ts';

/**
 * For a layer that brings the parents of all its entries: a tree to lay it over in place of the layers below, which has a directory
 * wherever this layer has one or hides a name. What makes the layer right over this tree makes it right over any: telling overlayfs to
 * hide what is not there does no harm.
 * Errors: ERR_TREE_BELOW naming the entry that leads through something the layer does not bring; ERR_TREE_PATH and ERR_TREE_LIMIT.
 */
export function worstBelow(entries: readonly TarEntry[], layerName: string): DirectoryNode {
  const nameOf = (entry: TarEntry): string => `entry ${displayBytes(entry.path)} of ${layerName}`;
  const below = (entry: TarEntry, detail: string): TreeError =>
    new TreeError('ERR_TREE_BELOW', `${nameOf(entry)} ${detail}`);
  const parentNotBrought = 'has a parent directory that is not in the layer';
  const root = newDirectory();
  const directories = new Map<string, DirectoryNode>([['', root]]);
  const markers: { entry: TarEntry; path: ByteString; hides: ByteString | undefined }[] = [];
  for (const entry of entries) {
    const path = cleanPath(entry.path, () => nameOf(entry));
    const whiteout = whiteoutAt(path);
    if (whiteout?.kind === 'meta' || path === '') continue;
    if (whiteout !== undefined) {
      markers.push({ entry, path, hides: whiteout.kind === 'name' ? whiteout.name : undefined });
      continue;
    }
    const parent = parentOf(directories, path);
    if (parent === undefined) throw below(entry, parentNotBrought);
    const known = directories.has(path);
    if (entry.type !== 'dir') {
      // What follows may lead through the link that takes the directory's place.
      if (known) throw below(entry, 'takes the place of a directory before it');
      continue;
    }
    if (known) continue;
    const directory = newDirectory();
    directories.set(path, directory);
    parent.children.set(path.slice(path.lastIndexOf('/') + 1) as ByteString, directory);
  }
  for (const { entry, path, hides } of markers) {
    const parent = parentOf(directories, path);
    if (parent === undefined) throw below(entry, parentNotBrought);
    if (hides === undefined) {
      if (parent === root) throw below(entry, 'hides everything below');
    } else if (!parent.children.has(hides)) {
      parent.children.set(hides, newDirectory());
    }
  }
  return root;
}

function parentOf(directories: ReadonlyMap<string, DirectoryNode>, path: ByteString): DirectoryNode | undefined {
  return directories.get(path.slice(0, Math.max(path.lastIndexOf('/'), 0)));
}
