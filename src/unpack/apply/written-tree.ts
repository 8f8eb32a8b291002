import type { NodeAttributes, TreeOp } from '../../native/tree-ops.ts';
import type { MergeTarget, NamedNode } from '../../tree/merge-target.ts';
import { type DirectoryNode, isDirectory, newDirectory, newNode } from '../../tree/node.ts';
import type { TreeNode } from '../../tree/tree.ts';
import type { ByteString } from '../../util/byte-string.ts';

/** What is known of a directory besides its node. */
export interface Place {
  /** Undefined for the root. */
  readonly above: DirectoryNode | undefined;
  readonly name: ByteString;
  /** The layer from which on nothing of the layers before it is in the directory. */
  since: number;
  /** The last layer with an entry for it; undefined when none has. */
  described: number | undefined;
  /** It took the place of something of its own layer that was no directory. */
  readonly replaces: boolean;
}

/** Told what happens before it does; may refuse by throwing. */
export interface TreeWatcher {
  /** A directory goes, with all that is in it. */
  lost(place: Place): void;
  /** The entry at hand describes a directory that is there. */
  described(place: Place): void;
  /** Links lead the entry at hand to this path. */
  elsewhere(path: ByteString): void;
}

export interface WrittenTreeOptions {
  readonly emit: (op: TreeOp) => void;
  readonly watcher?: TreeWatcher | undefined;
}

/**
 * What is in the directory that layers are unpacked into, and the operations that bring it there. Everything but directories and links is
 * one node per layer, since nobody asks for more of it; a directory's path is put together from its names when it is needed, and the last
 * one is kept, as entries of one directory mostly stand together.
 */
export class WrittenTree implements MergeTarget {
  readonly root = newDirectory();
  /** Of the entry at hand. */
  entryPath = '' as ByteString;
  readonly #emit: (op: TreeOp) => void;
  readonly #watcher: TreeWatcher | undefined;
  readonly #places = new Map<DirectoryNode, Place>();
  #layer = 0;
  #stream = 0;
  /** Stands for each thing of this layer that is neither a directory nor a link. */
  #thing = newNode('file', 0);
  /** Links of this layer. */
  #links = new Set<TreeNode>();
  #asides = 0;
  #lastDir: DirectoryNode | undefined;
  #lastPath = '' as ByteString;

  constructor({ emit, watcher }: WrittenTreeOptions) {
    this.#emit = emit;
    this.#watcher = watcher;
    const place = { above: undefined, name: '' as ByteString, since: 0, described: undefined, replaces: false };
    this.#places.set(this.root, place);
  }

  get layer(): number {
    return this.#layer;
  }

  /** What comes from now on is of the next layer, and its bytes are in this stream. */
  beginLayer(stream: number): void {
    this.#layer++;
    this.#stream = stream;
    this.#thing = newNode('file', 0);
    this.#links = new Set();
  }

  /** The same layer, in another stream. */
  setStream(stream: number): void {
    this.#stream = stream;
  }

  placeOf(dir: DirectoryNode): Place {
    return this.#places.get(dir) as Place;
  }

  pathOf(dir: DirectoryNode): ByteString {
    if (dir === this.#lastDir) return this.#lastPath;
    const names: ByteString[] = [];
    for (let { above, name } = this.placeOf(dir); above !== undefined; { above, name } = this.placeOf(above)) {
      names.push(name);
    }
    this.#lastPath = names.reverse().join('/') as ByteString;
    this.#lastDir = dir;
    return this.#lastPath;
  }

  pathIn(dir: DirectoryNode, name: ByteString): ByteString {
    const path = this.pathOf(dir);
    return path === '' ? name : (`${path}/${name}` as ByteString);
  }

  /** Whether this layer brought `node`, which is no directory. */
  isOwn(node: TreeNode): boolean {
    return node === this.#thing || this.#links.has(node);
  }

  child(dir: DirectoryNode, name: ByteString): TreeNode | undefined {
    return dir.children.get(name);
  }

  put(dir: DirectoryNode, name: ByteString, node: TreeNode): void {
    const path = this.#clear(dir, name);
    if (path !== this.entryPath) this.#watcher?.elsewhere(path);
    if (isDirectory(node)) {
      const replaces = dir.children.has(name);
      this.#mkdir(path, node, { above: dir, name, since: this.#layer, described: this.#layer, replaces });
      dir.children.set(name, node);
      return;
    }
    this.#emit(this.#creation(path, node));
    this.#keep(dir, name, node);
  }

  link(dir: DirectoryNode, name: ByteString, existing: NamedNode): void {
    let from = this.pathIn(existing.dir, existing.name);
    const inTheWay = dir.children.get(name);
    // The file moves up to where its own directory was.
    const goes = inTheWay !== undefined && isDirectory(inTheWay) && this.#holds(inTheWay, existing.dir);
    if (goes) {
      const aside = this.pathIn(dir, this.#freeName(dir));
      this.#emit({ op: 'link', path: aside, existing: from });
      from = aside;
    }
    const path = this.#clear(dir, name);
    if (path !== this.entryPath) this.#watcher?.elsewhere(path);
    this.#emit({ op: 'link', path, existing: from });
    if (goes) this.#emit({ op: 'remove', path: from });
    this.#keep(dir, name, { ...existing.node });
  }

  imply(dir: DirectoryNode, name: ByteString): DirectoryNode {
    const node = newDirectory();
    const place = { above: dir, name, since: this.#layer, described: undefined, replaces: false };
    this.#mkdir(this.pathIn(dir, name), node, place);
    dir.children.set(name, node);
    return node;
  }

  describes(dir: DirectoryNode): void {
    const place = this.placeOf(dir);
    this.#watcher?.described(place);
    place.described = this.#layer;
  }

  hide(dir: DirectoryNode, name: ByteString): void {
    const node = dir.children.get(name);
    if (node === undefined) return;
    this.#remove(this.pathIn(dir, name), node);
    dir.children.delete(name);
  }

  hideAll(dir: DirectoryNode): void {
    for (const name of dir.children.keys()) this.hide(dir, name);
  }

  #holds(outer: DirectoryNode, inner: DirectoryNode): boolean {
    for (let at: DirectoryNode | undefined = inner; at !== undefined; at = this.placeOf(at).above) {
      if (at === outer) return true;
    }
    return false;
  }

  /** Counts on, so that names which others have are passed over once. */
  #freeName(dir: DirectoryNode): ByteString {
    for (;;) {
      const name = `.peel-${this.#asides++}` as ByteString;
      if (!dir.children.has(name)) return name;
    }
  }

  #keep(dir: DirectoryNode, name: ByteString, node: TreeNode): void {
    if (node.type === 'symlink') this.#links.add(node);
    dir.children.set(name, node.type === 'symlink' ? node : this.#thing);
  }

  /** Makes room at `name`; returns the path. What is there stays in the directory's map. */
  #clear(dir: DirectoryNode, name: ByteString): ByteString {
    const path = this.pathIn(dir, name);
    const existing = dir.children.get(name);
    if (existing !== undefined) this.#remove(path, existing);
    return path;
  }

  #mkdir(path: ByteString, node: DirectoryNode, place: Place): void {
    this.#places.set(node, place);
    this.#emit({ op: 'mkdir', path });
    this.#lastDir = node;
    this.#lastPath = path;
  }

  #remove(path: ByteString, node: TreeNode): void {
    const todo = isDirectory(node) ? [node] : [];
    for (let dir = todo.pop(); dir !== undefined; dir = todo.pop()) {
      this.#watcher?.lost(this.placeOf(dir));
      this.#places.delete(dir);
      for (const child of dir.children.values()) if (isDirectory(child)) todo.push(child);
    }
    this.#emit({ op: 'remove', path });
  }

  #creation(path: ByteString, node: TreeNode): TreeOp {
    const attributes = attributesOf(node);
    if (node.type === 'symlink') return { op: 'symlink', path, target: node.link, attributes };
    if (node.type !== 'file') {
      const kind = node.type as 'char' | 'block' | 'fifo';
      return { op: 'node', path, kind, major: node.devMajor, minor: node.devMinor, attributes };
    }
    return { op: 'file', path, attributes, size: node.size, stream: this.#stream, extents: node.extents };
  }
}

export function attributesOf({ mode, uid, gid, mtime, mtimeNs, xattrs }: TreeNode): NodeAttributes {
  return { mode, uid, gid, mtime, mtimeNs, xattrs };
}
