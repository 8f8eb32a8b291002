// Directories that a layer has something in and does not describe look in a container like those of the layers below.
import type { DirectoryAttributes, LowerNode } from '../tree/lower-node.ts';
import { type ByteString, displayBytes } from '../util/byte-string.ts';
import { parentOf } from './directory-nodes.ts';
import type { LowerView } from './lower-view.ts';

export type ImpliedAttributes =
  /** Of every implied directory that a layer below has. */
  | { readonly kind: 'known'; readonly attributes: ReadonlyMap<ByteString, DirectoryAttributes> }
  /** Something other than a directory is below: the layer cannot be unpacked by itself. `reason`: half a sentence. */
  | { readonly kind: 'blocked'; readonly reason: string };

/**
 * `implied`: clean paths, parents first, of directories of the layer itself, whose own tree is the first view; then the layers below, topmost
 * first. As overlayfs merges them: whiteouts and opaque directories hide what is further down. Errors: those of the views.
 */
export async function impliedAttributes(
  implied: readonly ByteString[],
  own: LowerView,
  lowers: readonly LowerView[],
  options: { readonly signal: AbortSignal },
): Promise<ImpliedAttributes> {
  const walk = new Walk(implied);
  walk.look(await own.nodesAt(walk.paths, options));
  for (const view of lowers) {
    if (!walk.isOpen) break;
    const blocked = walk.lookBelow(await view.nodesAt(walk.paths, options));
    if (blocked === undefined) continue;
    const { path, type } = blocked;
    const reason = `directory ${displayBytes(path)}, which the layer does not bring, is a ${type} in ${view.name} below`;
    return { kind: 'blocked', reason };
  }
  return { kind: 'known', attributes: walk.found };
}

type Blocked = { readonly path: ByteString; readonly type: string };

/** From the layer's own tree down, all paths at once. */
class Walk {
  /** Those asked for and all above them, parents first. */
  readonly paths: readonly ByteString[];
  readonly found = new Map<ByteString, DirectoryAttributes>();
  readonly #implied: ReadonlySet<ByteString>;
  /** Where nothing further down shows through. */
  readonly #ended = new Set<ByteString>();

  constructor(implied: readonly ByteString[]) {
    this.#implied = new Set(implied);
    const all = new Set<ByteString>();
    for (const path of implied) addWithParents(all, path);
    this.paths = [...all];
  }

  /** Whether a layer further down may still say something. */
  get isOpen(): boolean {
    return this.paths.some((path) => this.#implied.has(path) && !this.found.has(path) && this.#reaches(path));
  }

  /** The layer's own tree: what it hides counts, and nothing else. */
  look(nodes: readonly (LowerNode | undefined)[]): void {
    for (const [i, path] of this.paths.entries()) {
      const node = nodes[i];
      if (node?.kind === 'directory' && node.opaque && path !== '') this.#ended.add(path);
    }
  }

  /** What stands in the way. */
  lookBelow(nodes: readonly (LowerNode | undefined)[]): Blocked | undefined {
    const here = new Set<ByteString>();
    const ended: ByteString[] = [];
    for (const [i, path] of this.paths.entries()) {
      const node = nodes[i];
      const shows = path === '' || here.has(parentOf(path));
      if (node === undefined || !shows || this.#ended.has(path)) continue;
      if (node.kind === 'directory') {
        here.add(path);
        if (this.#implied.has(path) && !this.found.has(path) && node.attributes !== undefined)
          this.found.set(path, node.attributes);
        // overlayfs looks for the mark everywhere but in the root.
        if (node.opaque && path !== '') ended.push(path);
        continue;
      }
      if (node.kind === 'other' && this.#implied.has(path) && !this.found.has(path)) return { path, type: node.type };
      ended.push(path);
    }
    for (const path of ended) this.#ended.add(path);
    return undefined;
  }

  /** Whether no directory on the way is the last one. */
  #reaches(path: ByteString): boolean {
    for (let at = path; ; at = parentOf(at)) {
      if (this.#ended.has(at)) return false;
      if (at === '') return true;
    }
  }
}

function addWithParents(all: Set<ByteString>, path: ByteString): void {
  const missing: ByteString[] = [];
  for (let at = path; !all.has(at); at = parentOf(at)) {
    missing.push(at);
    if (at === '') break;
  }
  for (const each of missing.toReversed()) all.add(each);
}
