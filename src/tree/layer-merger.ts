import type { TarEntry } from '../tar/entry.ts';
import { type Whiteout, whiteoutAt } from '../tar/whiteout.ts';
import { type ByteString, displayBytes } from '../util/byte-string.ts';
import { TreeError, type TreeErrorCode } from './errors.ts';
import { checkLinkTarget } from './link-target.ts';
import type { HideTarget, MergeTarget } from './merge-target.ts';
import { type DirectoryNode, isDirectory, newNode } from './node.ts';
import { cleanPath, NAME_MAX } from './path.ts';
import { descend, type ResolveOptions, resolvePath } from './resolve.ts';
import type { NodeType, TreeNode } from './tree.ts';

/** As many links as Go's path resolution follows when other tools extract a layer. */
const maxLinks = 255;

/** What a whole merge may still spend. */
export interface MergeBudget {
  nodes: number;
  /** Bytes of link targets followed on the way to parents: chains of links make short entries slow. */
  linkBytes: number;
}

/** Applies one layer's entries to the tree of the layers below it. */
export class LayerMerger {
  readonly #target: MergeTarget;
  readonly #layer: number;
  readonly #budget: MergeBudget;
  readonly #layerName: string;
  /** The entry at hand, for messages. */
  #entry: TarEntry | undefined;

  /** `layer`: what the extents of its files name. `layerName` is for messages. */
  constructor(target: MergeTarget, layer: number, budget: MergeBudget, layerName: string) {
    this.#target = target;
    this.#layer = layer;
    this.#budget = budget;
    this.#layerName = layerName;
  }

  /** A whole layer. */
  apply(entries: readonly TarEntry[]): void {
    const paths = entries.map((entry) => this.pathOf(entry));
    // Whiteouts speak of lower layers only: done first, they cannot touch what this layer brings.
    const ordinary = this.#applyWhiteouts(entries, paths);
    for (let i = 0; i < entries.length; i++) {
      if (ordinary !== undefined && ordinary[i] === 0) continue;
      this.add(entries[i] as TarEntry, paths[i] as ByteString);
    }
  }

  /** The entry's clean path. Errors: ERR_TREE_PATH, ERR_TREE_LIMIT. */
  pathOf(entry: TarEntry): ByteString {
    this.#entry = entry;
    return cleanPath(entry.path, this.#name);
  }

  /** The clean path of what a hard link names. Errors: as of `pathOf`. */
  targetOf(entry: TarEntry): ByteString {
    this.#entry = entry;
    return cleanPath(entry.link, () => `${this.#name()}: hard link to ${displayBytes(entry.link)}`);
  }

  /** What the entry at the clean `path` marks; undefined for an ordinary one. Errors: ERR_TREE_WHITEOUT. */
  markerAt(entry: TarEntry, path: ByteString): Whiteout | undefined {
    const whiteout = whiteoutAt(path);
    if (whiteout?.kind === 'name') {
      this.#entry = entry;
      this.#checkWhiteout(whiteout.name);
    }
    return whiteout;
  }

  /**
   * What the marker at the clean `path` does to the layers below, which `target` shows without what this layer brings. `isOwn`: whether
   * an entry of this layer has this clean path.
   * Errors: ERR_TREE_LOOP, ERR_TREE_LIMIT.
   */
  hide(
    entry: TarEntry,
    path: ByteString,
    marker: Whiteout,
    { target, isOwn }: { target: HideTarget; isOwn: (path: string) => boolean },
  ): void {
    if (marker.kind === 'meta') return;
    this.#entry = entry;
    // A link that this layer replaces leads nowhere in the layers below.
    const onLink = (_: TreeNode, link: () => string): boolean => !isOwn(link());
    const parent = this.#folder(target, path, path.lastIndexOf('/'), { onLink });
    if (parent === undefined) return;
    if (marker.kind === 'opaque') target.hideAll(parent);
    else target.hide(parent, marker.name);
  }

  readonly #name = (): string => `entry ${displayBytes((this.#entry as TarEntry).path)} of ${this.#layerName}`;

  /** Returns which entries are not whiteouts (1), or undefined when all are ordinary. */
  #applyWhiteouts(entries: readonly TarEntry[], paths: readonly ByteString[]): Uint8Array | undefined {
    let ordinary: Uint8Array | undefined;
    let own: Set<string> | undefined;
    const isOwn = (path: string): boolean => (own ??= new Set(paths)).has(path);
    for (let i = 0; i < paths.length; i++) {
      const entry = entries[i] as TarEntry;
      const path = paths[i] as ByteString;
      const marker = this.markerAt(entry, path);
      if (marker === undefined) continue;
      ordinary ??= new Uint8Array(paths.length).fill(1);
      ordinary[i] = 0;
      this.hide(entry, path, marker, { target: this.#target, isOwn });
    }
    return ordinary;
  }

  #checkWhiteout(name: ByteString): void {
    if (name !== '' && name !== '.' && name !== '..') return;
    throw this.#refuse('ERR_TREE_WHITEOUT', 'is a whiteout of nothing');
  }

  /** The entry at the clean `path`, which is no whiteout, after those before it. Errors: TreeError. */
  add(entry: TarEntry, path: ByteString): void {
    this.#entry = entry;
    if (path === '') {
      if (entry.type !== 'dir') throw this.#refuse('ERR_TREE_PATH', 'has no name');
      this.#describe(this.#target.root, entry);
      return;
    }
    const slash = path.lastIndexOf('/');
    const parent = slash === -1 ? this.#target.root : this.#parentAt(path, slash);
    const name = (slash === -1 ? path : path.slice(slash + 1)) as ByteString;
    const existing = this.#target.child(parent, name);
    if (entry.type === 'dir' && existing !== undefined && isDirectory(existing)) {
      this.#describe(existing, entry);
      return;
    }
    if (entry.type === 'hardlink') this.#link(entry, parent, name);
    else this.#target.put(parent, name, this.#made(entry, entry.type));
  }

  #describe(directory: DirectoryNode, entry: TarEntry): void {
    this.#target.describes(directory);
    describe(directory, entry);
  }

  #made(entry: TarEntry, type: NodeType): TreeNode {
    this.#charge();
    const node = newNode(type, 0);
    describe(node, entry);
    if (type === 'symlink') {
      checkLinkTarget(entry.link, this.#name);
      // Linux has no modes for links: extracted or not, they are 0777.
      node.mode = 0o777;
      node.link = entry.link;
      node.size = entry.link.length;
    } else if (type === 'file') {
      node.size = entry.size;
      const layer = this.#layer;
      node.extents = entry.extents.map(({ fileOffset, streamOffset, size }) => ({
        layer,
        fileOffset,
        streamOffset,
        size,
      }));
    } else {
      node.devMajor = entry.devMajor;
      node.devMinor = entry.devMinor;
    }
    return node;
  }

  /** What a hard link names must be there already, as for every program that extracts the layer. */
  #link(entry: TarEntry, parent: DirectoryNode, name: ByteString): void {
    const target = this.targetOf(entry);
    const slash = target.lastIndexOf('/');
    const folder = this.#folder(this.#target, target, slash);
    const base = target.slice(slash + 1) as ByteString;
    const node = folder && this.#target.child(folder, base);
    const what = `is a hard link to ${displayBytes(entry.link)}`;
    if (target === '' || (node !== undefined && isDirectory(node))) {
      throw this.#refuse('ERR_TREE_HARDLINK', `${what}, a directory`);
    }
    if (folder === undefined || node === undefined) {
      throw this.#refuse('ERR_TREE_HARDLINK', `${what}, which is not there`);
    }
    if (folder === parent && base === name) throw this.#refuse('ERR_TREE_HARDLINK', `${what}, itself`);
    if (folder.children.get(base) !== node)
      throw this.#refuse('ERR_TREE_LOWER_LINK', `${what}, a file of a lower layer`);
    this.#target.link(parent, name, { dir: folder, name: base, node });
  }

  /** The directory that holds the clean path's last name, whose slash stands at `slash` (-1: the root). */
  #folder(
    target: HideTarget,
    path: ByteString,
    slash: number,
    how: Pick<ResolveOptions, 'onLink' | 'onMissing'> = {},
  ): DirectoryNode | undefined {
    const end = Math.max(slash, 0);
    const { root } = target;
    const child = (dir: DirectoryNode, name: ByteString) => target.child(dir, name);
    const straight = descend(root, path, end, child);
    if (straight !== undefined) return straight;
    const onLink = (link: TreeNode, linkPath: () => string): boolean => {
      this.#budget.linkBytes -= link.link.length;
      if (this.#budget.linkBytes < 0)
        throw this.#refuse('ERR_TREE_LIMIT', 'needs more symbolic links followed than the limit');
      return how.onLink?.(link, linkPath) ?? true;
    };
    try {
      const found = resolvePath(root, path.slice(0, end), { maxLinks, followLast: true, ...how, child, onLink });
      return found !== undefined && isDirectory(found) ? found : undefined;
    } catch (error) {
      if (!(error instanceof TreeError) || error.code !== 'ERR_TREE_LOOP') throw error;
      throw this.#refuse('ERR_TREE_LOOP', 'leads through too many symbolic links');
    }
  }

  /** The same for a new entry: missing directories are made. */
  #parentAt(path: ByteString, slash: number): DirectoryNode {
    const parent = this.#folder(this.#target, path, slash, {
      onMissing: (above, name) => {
        // Only the target of a link can bring such a name here.
        if (name.length > NAME_MAX) throw this.#refuse('ERR_TREE_PATH', 'leads through a link with too long a name');
        this.#charge();
        return this.#target.imply(above, name);
      },
    });
    if (parent !== undefined) return parent;
    throw this.#refuse('ERR_TREE_PARENT', 'is below something that is not a directory');
  }

  #charge(): void {
    if (--this.#budget.nodes < 0) throw this.#refuse('ERR_TREE_LIMIT', 'is one file or directory more than the limit');
  }

  #refuse(code: TreeErrorCode, detail: string): TreeError {
    return new TreeError(code, `${this.#name()} ${detail}`);
  }
}

function describe(node: TreeNode, entry: TarEntry): void {
  node.mode = entry.mode;
  node.uid = entry.uid;
  node.gid = entry.gid;
  node.mtime = entry.mtime;
  node.mtimeNs = entry.mtimeNs;
  node.xattrs = entry.xattrs;
}
