import { fileType } from './erofs/abi.ts';
import { ImageBytes, imageError } from './erofs/image-bytes.ts';
import { readChunks } from './erofs/read-chunks.ts';
import { readDirectory } from './erofs/read-directory.ts';
import { readInode } from './erofs/read-inode.ts';
import { type ImageFacts, readSuperblock } from './erofs/read-superblock.ts';
import { XattrReader } from './erofs/read-xattrs.ts';
import { TreeError } from './errors.ts';
import { impliedMark } from './implied-mark.ts';
import { countLinks } from './merge.ts';
import { type DirectoryNode, isDirectory } from './node.ts';
import { MAX_PATH } from './path.ts';
import type { Tree, TreeNode } from './tree.ts';

/** What an image from outside may ask of us. */
export interface ErofsLimits {
  /** Names in the whole tree, and one for the root; default 2 million. */
  readonly entries?: number;
  /** Bytes of a path; default 65 535, and never more. */
  readonly nameBytes?: number;
  /** Sum of the bytes of all paths and link targets; default 1 GiB. */
  readonly allNameBytes?: number;
  /** Sum of the bytes of names and values of all extended attributes, and 64 for each; default 256 MiB. */
  readonly allXattrBytes?: number;
  /** Runs of data of all files; default 4 Mi. */
  readonly extents?: number;
  /** Chunks of all files, holes included; default 32 Mi, as many as `writeErofs` makes. */
  readonly chunks?: number;
}

/** What may still be spent. */
interface Left {
  entries: number;
  names: number;
  xattrs: number;
  extents: number;
  chunks: number;
}

interface Place {
  readonly dir: DirectoryNode;
  readonly nid: number;
  readonly parentNid: number;
  readonly listing: { readonly at: number; readonly size: number };
  /** Bytes of the directory's path and the slash behind it. */
  readonly prefix: number;
}

/**
 * The tree of an archive from its EROFS image, as `writeErofs(archiveTree(…))` makes it: blocks of 512 bytes, extended inodes, one device,
 * no feature besides. Nothing of the image is believed, and it is not kept.
 * Errors: ERR_TREE_IMAGE for anything else, ERR_TREE_LIMIT.
 */
export function readErofs(bytes: Uint8Array, limits: ErofsLimits = {}): Tree {
  return new ErofsReader(bytes, limits).read();
}

class ErofsReader {
  readonly #image: ImageBytes;
  readonly #facts: ImageFacts;
  readonly #xattrs: XattrReader;
  readonly #limits: Required<ErofsLimits>;
  readonly #files = new Map<number, TreeNode>();
  readonly #directories = new Set<number>();
  readonly #places: Place[] = [];
  /** Number of names that each inode states. */
  readonly #stated: { readonly node: TreeNode; readonly nlink: number }[] = [];
  readonly #order = new Map<TreeNode, number>();
  readonly #positions: Uint8Array;
  #deviceUsed = 0;
  readonly #left: Left;

  constructor(bytes: Uint8Array, limits: ErofsLimits) {
    this.#limits = {
      entries: limits.entries ?? 2_000_000,
      nameBytes: Math.min(limits.nameBytes ?? MAX_PATH, MAX_PATH),
      allNameBytes: limits.allNameBytes ?? 2 ** 30,
      allXattrBytes: limits.allXattrBytes ?? 256 * 2 ** 20,
      extents: limits.extents ?? 4 * 2 ** 20,
      chunks: limits.chunks ?? 32 * 2 ** 20,
    };
    const { entries, allNameBytes, allXattrBytes, extents, chunks } = this.#limits;
    this.#left = { entries: entries - 1, names: allNameBytes, xattrs: allXattrBytes, extents, chunks };
    this.#image = new ImageBytes(bytes);
    this.#facts = readSuperblock(this.#image);
    if (this.#facts.inodes > entries) throw tooMuch('names', entries);
    this.#positions = new Uint8Array(this.#facts.inodes);
    this.#xattrs = new XattrReader(this.#image, this.#facts.sharedXattrs, (size) => this.#spend('xattrs', size + 64));
  }

  read(): Tree {
    const { rootNid } = this.#facts;
    const root = this.#inode(rootNid, rootNid, 0);
    if (!isDirectory(root)) throw imageError('has a root that is no directory');
    for (const place of this.#places) this.#list(place);
    countLinks(root);
    if (this.#stated.some(({ node, nlink }) => node.nlink !== nlink))
      throw imageError('has an inode with more or fewer names than it says');
    if (this.#order.size !== this.#facts.inodes || this.#order.get(root) !== 1)
      throw imageError('has an impossible order of its inodes');
    if (this.#deviceUsed !== this.#facts.deviceSize) throw imageError('has a device of another size than its data');
    this.#checkOrder();
    return { root, layers: 1, order: this.#order };
  }

  /** The node, of a directory with its place in line. `prefix`: bytes of the path of what is in it. */
  #inode(nid: number, parentNid: number, prefix: number): TreeNode {
    const { node, ino, nlink, listing, chunks, ...xattrs } = readInode(this.#image, nid);
    if (ino === 0 || ino > this.#positions.length || this.#positions[ino - 1] !== 0)
      throw imageError('has an impossible order of its inodes');
    this.#positions[ino - 1] = 1;
    this.#order.set(node, ino);
    this.#stated.push({ node, nlink });
    node.xattrs = this.#xattrs.read(xattrs) ?? node.xattrs;
    const mark = node.xattrs.get(impliedMark);
    if (mark !== undefined && (mark.length > 0 || !isDirectory(node)))
      throw imageError('has a mark on what cannot have one');
    if (chunks !== undefined) {
      const place = { size: node.size, ...chunks };
      const extents = readChunks(this.#image, place, this.#facts.deviceSize, this.#spend);
      for (const { streamOffset, size } of extents)
        this.#deviceUsed = Math.max(this.#deviceUsed, Math.ceil((streamOffset + size) / 512) * 512);
      node.extents = extents;
    }
    this.#spend('names', node.link.length);
    if (listing !== undefined && isDirectory(node)) {
      this.#directories.add(nid);
      this.#places.push({ dir: node, nid, parentNid, listing, prefix });
    } else {
      this.#files.set(nid, node);
    }
    return node;
  }

  #list({ dir, nid, parentNid, listing, prefix }: Place): void {
    let dots = 0;
    for (const { name, nid: target, type } of readDirectory(this.#image, listing.at, listing.size)) {
      if (name === '.' || name === '..') {
        if (target !== (name === '.' ? nid : parentNid) || type !== fileType.dir.dirent)
          throw imageError(`has a directory with a wrong "${name}"`);
        dots += 1;
        continue;
      }
      this.#spend('entries', 1);
      const path = prefix + name.length;
      if (path > this.#limits.nameBytes) throw tooMuch('bytes of a path', this.#limits.nameBytes);
      this.#spend('names', path);
      if (this.#directories.has(target)) throw imageError('has a directory in two places');
      const node = this.#files.get(target) ?? this.#inode(target, nid, path + 1);
      if (fileType[node.type].dirent !== type) throw imageError('has a name of another type than its inode');
      dir.children.set(name, node);
    }
    if (dots !== 2) throw imageError('has a directory without "." or ".."');
  }

  /** Everything stands behind its directory, a file with several names behind that of one of them. */
  #checkOrder(): void {
    const placed = new Set<TreeNode>();
    for (const { dir } of this.#places) {
      const above = this.#order.get(dir) as number;
      for (const node of dir.children.values()) if ((this.#order.get(node) as number) > above) placed.add(node);
    }
    if (placed.size + 1 !== this.#order.size) throw imageError('has something before its directory');
  }

  readonly #spend = (what: keyof Left, amount: number): void => {
    this.#left[what] -= amount;
    if (this.#left[what] >= 0) return;
    const { entries, allNameBytes, allXattrBytes, extents, chunks } = this.#limits;
    if (what === 'entries') throw tooMuch('names', entries);
    if (what === 'names') throw tooMuch('bytes of paths and links', allNameBytes);
    if (what === 'xattrs') throw tooMuch('bytes of extended attributes', allXattrBytes);
    if (what === 'extents') throw tooMuch('runs of data', extents);
    throw tooMuch('chunks', chunks);
  };
}

function tooMuch(what: string, limit: number): TreeError {
  return new TreeError('ERR_TREE_LIMIT', `the EROFS image has more ${what} than ${limit}`);
}
