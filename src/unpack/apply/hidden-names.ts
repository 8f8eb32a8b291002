import type { Whiteout } from '../../tar/whiteout.ts';
import { type DirectoryNode, isDirectory } from '../../tree/node.ts';
import type { TreeNode } from '../../tree/tree.ts';
import type { ByteString } from '../../util/byte-string.ts';
import type { WrittenTree } from './written-tree.ts';

/** What markers say of one directory of the layers below. */
interface Hiding {
  readonly children: Map<ByteString, Hiding>;
  readonly names: Set<ByteString>;
  all: boolean;
  /** The layer does not describe the directory: below it might be a link that leads elsewhere. */
  readonly assumed: boolean;
}

/** What is to be written for the markers. */
export interface HiddenPlaces {
  readonly whiteouts: readonly { readonly dir: DirectoryNode; readonly name: ByteString }[];
  /** The layer's own directories of which a marker hides what is below: by its name, or all that is in it. */
  readonly replaced: ReadonlySet<DirectoryNode>;
  readonly emptied: ReadonlySet<DirectoryNode>;
  /** Directories that had to be made for whiteouts. */
  readonly made: readonly DirectoryNode[];
}

export interface HiddenNamesOptions {
  readonly tree: WrittenTree;
  /** Paths at which the layer has something that none of its entries names. */
  readonly elsewhere: ReadonlySet<string>;
  /** Makes the error for a marker whose effect depends on the layers below. */
  readonly refuse: (detail: string) => Error;
}

const leadsElsewhere = 'may lead elsewhere, depending on the layers below';

/**
 * The markers of a layer whose layers below are not known. A marker counts as if it were read before the layer's ordinary entries,
 * after the markers before it; what the layer brings itself is never hidden.
 */
export class HiddenNames {
  readonly #tree: WrittenTree;
  readonly #elsewhere: ReadonlySet<string>;
  readonly #refuse: (detail: string) => Error;
  readonly #root = newHiding(false);

  constructor({ tree, elsewhere, refuse }: HiddenNamesOptions) {
    this.#tree = tree;
    this.#elsewhere = elsewhere;
    this.#refuse = refuse;
  }

  /** In archive order, when all entries of the layer are in the tree. Errors: those of `refuse`. */
  add(path: ByteString, marker: Whiteout): void {
    if (marker.kind === 'meta') return;
    const hiding = this.#parentOf(path);
    if (hiding === undefined || hiding.all) return;
    if (marker.kind === 'opaque') {
      if (hiding === this.#root) throw this.#refuse('hides everything below');
      for (const inner of hiding.children.values()) this.#checkNoneAssumed(inner);
      hiding.children.clear();
      hiding.names.clear();
      hiding.all = true;
      return;
    }
    const inner = hiding.children.get(marker.name);
    if (inner !== undefined) this.#checkNoneAssumed(inner);
    hiding.children.delete(marker.name);
    hiding.names.add(marker.name);
  }

  /** Makes the directories that whiteouts need. */
  place(): HiddenPlaces {
    const whiteouts: { dir: DirectoryNode; name: ByteString }[] = [];
    const replaced = new Set<DirectoryNode>();
    const emptied = new Set<DirectoryNode>();
    const made: DirectoryNode[] = [];
    const todo = [{ hiding: this.#root, dir: this.#tree.root }];
    for (let step = todo.pop(); step !== undefined; step = todo.pop()) {
      const { hiding, dir } = step;
      if (hiding.all) emptied.add(dir);
      for (const name of hiding.names) {
        const own = dir.children.get(name);
        if (own === undefined) whiteouts.push({ dir, name });
        else if (isDirectory(own)) replaced.add(own);
      }
      for (const [name, inner] of hiding.children) {
        let own = dir.children.get(name) as DirectoryNode | undefined;
        if (own === undefined) made.push((own = this.#tree.imply(dir, name)));
        todo.push({ hiding: inner, dir: own });
      }
    }
    return { whiteouts, replaced, emptied, made };
  }

  /** Undefined when nothing of the layers below can be seen there. */
  #parentOf(path: ByteString): Hiding | undefined {
    let hiding: Hiding | undefined = this.#root;
    let dir: TreeNode | undefined = this.#tree.root;
    const end = Math.max(path.lastIndexOf('/'), 0);
    for (let start = 0; start < end; ) {
      const stop = path.indexOf('/', start);
      const name = path.slice(start, stop) as ByteString;
      if (hiding !== undefined && (hiding.all || hiding.names.has(name))) return undefined;
      if (this.#elsewhere.size > 0 && this.#elsewhere.has(path.slice(0, stop))) throw this.#refuse(leadsElsewhere);
      dir = dir?.children?.get(name);
      const isFolder = dir !== undefined && isDirectory(dir);
      const assumed = dir === undefined || (isFolder && this.#isImplied(dir as DirectoryNode));
      // The layer has something else than what is below: nothing of that is seen, but there can be links in it.
      if (dir !== undefined && (!isFolder || this.#tree.placeOf(dir as DirectoryNode).replaces)) hiding = undefined;
      if (hiding === undefined && (assumed || (!isFolder && stop !== end))) throw this.#refuse(leadsElsewhere);
      if (hiding !== undefined) hiding = inside(hiding, name, assumed);
      start = stop + 1;
    }
    return hiding;
  }

  #isImplied(dir: DirectoryNode): boolean {
    return this.#tree.placeOf(dir).described === undefined;
  }

  /** A marker takes away what earlier ones were read through, which therefore must have been a directory. */
  #checkNoneAssumed(hiding: Hiding): void {
    const todo = [hiding];
    for (let one = todo.pop(); one !== undefined; one = todo.pop()) {
      if (one.assumed) throw this.#refuse('hides a directory after what is in it, and that may lie elsewhere');
      todo.push(...one.children.values());
    }
  }
}

function inside(hiding: Hiding, name: ByteString, assumed: boolean): Hiding {
  let found = hiding.children.get(name);
  if (found === undefined) hiding.children.set(name, (found = newHiding(assumed)));
  return found;
}

function newHiding(assumed: boolean): Hiding {
  return { children: new Map(), names: new Set(), all: false, assumed };
}
