import type { TarEntry } from '../tar/entry.ts';
import { WHITEOUT_PREFIX, whiteoutAt } from '../tar/whiteout.ts';
import { type ByteString, displayBytes } from '../util/byte-string.ts';
import { archiveNames } from './archive-order.ts';
import { archiveNode, describeNode } from './archive-node.ts';
import { TreeError, type TreeErrorCode } from './errors.ts';
import { checkExtents } from './extents.ts';
import { markImplied } from './implied-mark.ts';
import { countLinks } from './merge.ts';
import { type DirectoryNode, isDirectory, newDirectory, newNode } from './node.ts';
import { isWhiteout } from './overlay-marks.ts';
import { cleanPath } from './path.ts';
import type { Tree, TreeNode } from './tree.ts';

export interface ArchiveTreeOptions {
  /** Most names, the root not among them; default 16 million. What was replaced counts too. */
  readonly maxNames?: number;
  /** Bytes of the layer stream. */
  readonly streamSize: number;
}

const layerName = 'the layer';

/**
 * The members of a layer's archive as a tree, by their clean paths and by themselves: no link is followed, and whiteouts are files. The
 * last entry of a path counts, and a hard link is a further name. A directory that has no entry is marked (`impliedMark`). `treeEntries`
 * gives entries that do to any layers below what the archive's do.
 * Errors: TreeError, naming the entry, for what is no layer, and for what such a tree does not say truthfully: what leads through links
 * or into the layers below; what takes the place of something of another kind or of a file with several names; a directory's entry behind what
 * is in it; a layer that leaves out directories, where the order of its entries counts, when the tree does not keep it; what EROFS has no
 * room for. Bookkeeping of AUFS is left out.
 */
export function archiveTree(entries: readonly TarEntry[], options: ArchiveTreeOptions): Tree {
  const { streamSize, maxNames = 16_000_000 } = options;
  checkExtents(entries, layerName, streamSize);
  return new ArchiveTree(maxNames).read(entries);
}

interface Placed {
  readonly entry: TarEntry;
  readonly path: ByteString;
  /** Index of the entry. */
  readonly at: number;
}

class ArchiveTree {
  readonly #root = newDirectory();
  /** Index of the entry that brought each node; ascending but for whiteouts. */
  readonly #places = new Map<TreeNode, number>();
  readonly #described = new Set<DirectoryNode>();
  /** Files that hard links name. */
  readonly #linked = new Set<TreeNode>();
  readonly #ordinary: Placed[] = [];
  readonly #markers: Placed[] = [];
  /** The first entry in a directory that has none. */
  #below: Placed | undefined;
  /** The first entry of a path that was there. */
  #again: Placed | undefined;
  #namesLeft: number;
  #placed: Placed | undefined;
  #lastPath = '';
  #lastDir = this.#root;

  constructor(maxNames: number) {
    this.#namesLeft = maxNames;
    this.#places.set(this.#root, -1);
  }

  read(entries: readonly TarEntry[]): Tree {
    for (const [at, entry] of entries.entries()) {
      const path = cleanPath(entry.path, () => `entry ${displayBytes(entry.path)} of ${layerName}`);
      const marker = whiteoutAt(path);
      if (marker?.kind === 'meta') continue;
      const placed = { entry, path, at };
      if (marker === undefined) {
        this.#ordinary.push(placed);
        this.#add(placed);
        continue;
      }
      this.#placed = placed;
      if (marker.kind === 'name' && (marker.name === '' || marker.name === '.' || marker.name === '..'))
        throw this.#refuse('ERR_TREE_WHITEOUT', 'is a whiteout of nothing');
      this.#markers.push(placed);
    }
    // As for all who apply a layer: where they stand among the other entries means nothing.
    for (const placed of this.#markers) this.#addMarker(placed);
    return this.#finish();
  }

  #add(placed: Placed): void {
    this.#placed = placed;
    const { entry, path } = placed;
    if (path === '') {
      if (entry.type !== 'dir') throw this.#refuse('ERR_TREE_PATH', 'has no name');
      this.#describe(this.#root, entry);
      return;
    }
    const parent = this.#parentOf(path);
    const name = path.slice(path.lastIndexOf('/') + 1) as ByteString;
    const existing = parent.children.get(name);
    if (entry.type === 'dir') this.#addDirectory(entry, parent, name, existing);
    else this.#addOther(entry, parent, name, existing);
  }

  #addDirectory(entry: TarEntry, parent: DirectoryNode, name: ByteString, existing: TreeNode | undefined): void {
    if (existing === undefined) {
      const made = newDirectory();
      this.#put(parent, name, made);
      this.#describe(made, entry);
      return;
    }
    if (!isDirectory(existing))
      throw this.#refuse('ERR_TREE_BELOW', 'takes the place of something before it that is no directory');
    if (!this.#described.has(existing)) throw this.#refuse('ERR_TREE_BELOW', 'comes after something that is in it');
    this.#again ??= this.#placed;
    this.#describe(existing, entry);
  }

  #addOther(entry: TarEntry, parent: DirectoryNode, name: ByteString, existing: TreeNode | undefined): void {
    if (existing !== undefined && isDirectory(existing))
      throw this.#refuse('ERR_TREE_BELOW', 'takes the place of a directory before it');
    const target = entry.type === 'hardlink' ? this.#targetOf(entry) : undefined;
    if (existing !== undefined) {
      if (target === existing) {
        if (this.#pathOfTarget(entry) === this.#placed?.path)
          throw this.#refuse('ERR_TREE_HARDLINK', `is a hard link to ${displayBytes(entry.link)}, itself`);
      } else if (this.#linked.has(existing)) {
        throw this.#refuse('ERR_TREE_HARDLINK', 'takes the place of a file before it that has several names');
      }
      if (isWhiteout(existing))
        throw this.#refuse('ERR_TREE_DEVICE', 'takes the place of the character device 0:0 before it');
      this.#again ??= this.#placed;
    }
    if (target === undefined) {
      this.#put(
        parent,
        name,
        archiveNode(entry, entry.type as Exclude<typeof entry.type, 'hardlink' | 'dir'>, this.#what),
      );
      return;
    }
    this.#charge();
    this.#linked.add(target);
    parent.children.set(name, target);
  }

  #addMarker(placed: Placed): void {
    this.#placed = placed;
    const { entry, path, at } = placed;
    const parent = this.#parentOf(path);
    const name = path.slice(path.lastIndexOf('/') + 1) as ByteString;
    if (parent.children.has(name)) {
      this.#again ??= placed;
      return;
    }
    // Only its name means something.
    const { mode, uid, gid, mtime, mtimeNs } = entry;
    const node = Object.assign(newNode('file', mode), { uid, gid, mtime, mtimeNs });
    this.#put(parent, name, node, Math.max(at, this.#places.get(parent) as number));
  }

  #pathOfTarget(entry: TarEntry): ByteString {
    return cleanPath(entry.link, () => `${this.#what()}: hard link to ${displayBytes(entry.link)}`);
  }

  #targetOf(entry: TarEntry): TreeNode {
    const path = this.#pathOfTarget(entry);
    const what = `is a hard link to ${displayBytes(entry.link)}`;
    let node: TreeNode | undefined = this.#root;
    for (const name of path === '' ? [] : path.split('/')) node = node?.children?.get(name as ByteString);
    if (node === undefined) throw this.#refuse('ERR_TREE_HARDLINK', `${what}, which is not in the layer before it`);
    if (isDirectory(node)) throw this.#refuse('ERR_TREE_HARDLINK', `${what}, a directory`);
    return node;
  }

  #describe(directory: DirectoryNode, entry: TarEntry): void {
    this.#described.add(directory);
    describeNode(directory, entry, this.#what);
  }

  /** Entries of one directory mostly stand together. */
  #parentOf(path: ByteString): DirectoryNode {
    const end = Math.max(path.lastIndexOf('/'), 0);
    if (end === this.#lastPath.length && path.startsWith(this.#lastPath)) return this.#lastDir;
    let dir = this.#root;
    for (let start = 0; start < end; ) {
      const stop = path.indexOf('/', start);
      const name = path.slice(start, stop) as ByteString;
      const child = dir.children.get(name);
      if (child !== undefined && !isDirectory(child))
        throw this.#refuse(
          'ERR_TREE_PARENT',
          `is below ${displayBytes(path.slice(0, stop) as ByteString)}, which is no directory in the layer`,
        );
      dir = child ?? this.#imply(dir, name);
      start = stop + 1;
    }
    this.#lastPath = path.slice(0, end);
    this.#lastDir = dir;
    return dir;
  }

  #imply(parent: DirectoryNode, name: ByteString): DirectoryNode {
    if (name.startsWith(WHITEOUT_PREFIX)) throw this.#refuse('ERR_TREE_WHITEOUT', 'is below a whiteout');
    this.#below ??= this.#placed;
    const made = newDirectory();
    this.#put(parent, name, made);
    return made;
  }

  #put(parent: DirectoryNode, name: ByteString, node: TreeNode, at = (this.#placed as Placed).at): void {
    this.#charge();
    this.#places.set(node, at);
    parent.children.set(name, node);
  }

  #charge(): void {
    if (--this.#namesLeft < 0) throw this.#refuse('ERR_TREE_LIMIT', 'is one file or directory more than the limit');
  }

  #finish(): Tree {
    countLinks(this.#root);
    const places = [...this.#places].filter(([{ nlink }]) => nlink > 0).sort(([, a], [, b]) => a - b);
    const order = new Map(places.map(([node], i) => [node, i + 1]));
    for (const [node] of places) if (isDirectory(node) && !this.#described.has(node)) markImplied(node);
    const tree: Tree = { root: this.#root, layers: 1, order };
    if (this.#below !== undefined) this.#checkOrder(tree, this.#below);
    return tree;
  }

  /**
   * A directory without an entry may be a link in the layers below, to anything that other entries bring, or take away: then each entry must
   * come when it came.
   */
  #checkOrder(tree: Tree, below: Placed): void {
    const why = (detail: string): string =>
      `${detail}, and the directory of ${displayBytes(below.entry.path)}, which the layer does not describe, may be a link below`;
    const again = this.#again;
    if (again !== undefined) {
      this.#placed = again;
      throw this.#refuse('ERR_TREE_BELOW', why('comes again'));
    }
    const names = archiveNames(tree).filter(
      ({ path, node }) => path !== '' && (!isDirectory(node) || this.#described.has(node)),
    );
    const check = (found: readonly (typeof names)[number][], placed: readonly Placed[]): void => {
      const expected = placed.filter(({ path }) => path !== '');
      for (const [i, one] of expected.entries()) {
        const name = found[i];
        const links =
          one.entry.type === 'hardlink' && whiteoutAt(one.path) === undefined
            ? this.#pathOfTarget(one.entry)
            : undefined;
        if (name?.path === one.path && name.linksTo === links) continue;
        this.#placed = one;
        throw this.#refuse('ERR_TREE_BELOW', why('would stand elsewhere among the entries'));
      }
    };
    check(
      names.filter(({ path }) => whiteoutAt(path) === undefined),
      this.#ordinary,
    );
    check(
      names.filter(({ path }) => whiteoutAt(path) !== undefined),
      this.#markers,
    );
  }

  readonly #what = (): string => `entry ${displayBytes((this.#placed as Placed).entry.path)} of ${layerName}`;

  #refuse(code: TreeErrorCode, detail: string): TreeError {
    return new TreeError(code, `${this.#what()} ${detail}`);
  }
}
