import type { TarEntry } from '../tar/entry.ts';
import { whiteoutAt } from '../tar/whiteout.ts';
import { type ByteString, displayBytes } from '../util/byte-string.ts';
import { TreeError, type TreeErrorCode } from './errors.ts';
import type { MergeTarget } from './merge-target.ts';
import { type DirectoryNode, isDirectory, newDirectory, newNode } from './node.ts';
import { cleanPath, NAME_MAX } from './path.ts';
import { descend, type ResolveOptions, resolvePath } from './resolve.ts';
import type { NodeType, TreeNode } from './tree.ts';

/** As many links as Go's path resolution follows when other tools extract a layer. */
const maxLinks = 255;
/** The kernel reads targets into one page with a NUL behind them. */
const maxTarget = 4095;

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

  apply(entries: readonly TarEntry[]): void {
    const paths = entries.map((entry) => {
      this.#entry = entry;
      return cleanPath(entry.path, this.#name);
    });
    // Whiteouts speak of lower layers only: done first, they cannot touch what this layer brings.
    const ordinary = this.#applyWhiteouts(entries, paths);
    for (let i = 0; i < entries.length; i++) {
      if (ordinary !== undefined && ordinary[i] === 0) continue;
      this.#entry = entries[i] as TarEntry;
      this.#add(this.#entry, paths[i] as ByteString);
    }
  }

  readonly #name = (): string => `entry ${displayBytes((this.#entry as TarEntry).path)} of ${this.#layerName}`;

  /** Returns which entries are not whiteouts (1), or undefined when all are ordinary. */
  #applyWhiteouts(entries: readonly TarEntry[], paths: readonly ByteString[]): Uint8Array | undefined {
    let ordinary: Uint8Array | undefined;
    let own: Set<string> | undefined;
    // A link that this layer replaces leads nowhere in the layers below.
    const onLink = (_: TreeNode, link: () => string): boolean => {
      own ??= new Set(paths);
      return !own.has(link());
    };
    for (let i = 0; i < paths.length; i++) {
      const path = paths[i] as ByteString;
      const slash = path.lastIndexOf('/');
      const whiteout = whiteoutAt(path);
      if (whiteout === undefined) continue;
      ordinary ??= new Uint8Array(paths.length).fill(1);
      ordinary[i] = 0;
      if (whiteout.kind === 'meta') continue;
      this.#entry = entries[i] as TarEntry;
      if (whiteout.kind === 'name') this.#checkWhiteout(whiteout.name);
      const parent = this.#folder(path, slash, { onLink });
      if (parent === undefined) continue;
      if (whiteout.kind === 'opaque') this.#target.hideAll(parent);
      else this.#target.hide(parent, whiteout.name);
    }
    return ordinary;
  }

  #checkWhiteout(name: ByteString): void {
    if (name !== '' && name !== '.' && name !== '..') return;
    throw this.#refuse('ERR_TREE_WHITEOUT', 'is a whiteout of nothing');
  }

  #add(entry: TarEntry, path: ByteString): void {
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
    const node = entry.type === 'hardlink' ? this.#linked(entry, parent, name) : this.#made(entry, entry.type);
    this.#target.put(parent, name, node);
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
      this.#checkTarget(entry.link);
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

  /** The inode a hard link names, which must be there already, as for every program that extracts the layer. */
  #linked(entry: TarEntry, parent: DirectoryNode, name: ByteString): TreeNode {
    const target = cleanPath(entry.link, () => `${this.#name()}: hard link to ${displayBytes(entry.link)}`);
    const slash = target.lastIndexOf('/');
    const folder = this.#folder(target, slash);
    const base = target.slice(slash + 1) as ByteString;
    const node = folder && this.#target.child(folder, base);
    const what = `is a hard link to ${displayBytes(entry.link)}`;
    if (target === '' || (node !== undefined && isDirectory(node))) {
      throw this.#refuse('ERR_TREE_HARDLINK', `${what}, a directory`);
    }
    if (node === undefined) throw this.#refuse('ERR_TREE_HARDLINK', `${what}, which is not there`);
    if (folder === parent && base === name) throw this.#refuse('ERR_TREE_HARDLINK', `${what}, itself`);
    if (folder?.children.get(base) !== node)
      throw this.#refuse('ERR_TREE_LOWER_LINK', `${what}, a file of a lower layer`);
    return node;
  }

  /** The directory that holds the clean path's last name, whose slash stands at `slash` (-1: the root). */
  #folder(
    path: ByteString,
    slash: number,
    how: Pick<ResolveOptions, 'onLink' | 'onMissing'> = {},
  ): DirectoryNode | undefined {
    const end = Math.max(slash, 0);
    const { root } = this.#target;
    const straight = descend(root, path, end);
    if (straight !== undefined) return straight;
    const onLink = (link: TreeNode, linkPath: () => string): boolean => {
      this.#budget.linkBytes -= link.link.length;
      if (this.#budget.linkBytes < 0)
        throw this.#refuse('ERR_TREE_LIMIT', 'needs more symbolic links followed than the limit');
      return how.onLink?.(link, linkPath) ?? true;
    };
    const child = (dir: DirectoryNode, name: ByteString) => this.#target.child(dir, name);
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
    const parent = this.#folder(path, slash, {
      onMissing: (above, name) => {
        // Only the target of a link can bring such a name here.
        if (name.length > NAME_MAX) throw this.#refuse('ERR_TREE_PATH', 'leads through a link with too long a name');
        this.#charge();
        const made = newDirectory();
        this.#target.put(above, name, made);
        return made;
      },
    });
    if (parent !== undefined) return parent;
    throw this.#refuse('ERR_TREE_PARENT', 'is below something that is not a directory');
  }

  #checkTarget(link: ByteString): void {
    if (link === '') throw this.#refuse('ERR_TREE_SYMLINK', 'is a symbolic link without a target');
    if (link.includes('\0')) throw this.#refuse('ERR_TREE_SYMLINK', 'is a symbolic link with a NUL byte in its target');
    if (link.length > maxTarget) {
      throw this.#refuse(
        'ERR_TREE_SYMLINK',
        `is a symbolic link to a target of ${link.length} bytes, more than ${maxTarget}`,
      );
    }
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
