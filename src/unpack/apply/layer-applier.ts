import type { TreeOp } from '../../native/tree-ops.ts';
import type { TarEntry } from '../../tar/entry.ts';
import { TreeError } from '../../tree/errors.ts';
import { checkNextExtents } from '../../tree/extents.ts';
import { LayerMerger, type MergeBudget } from '../../tree/layer-merger.ts';
import { newBudget } from '../../tree/merge.ts';
import { isWhiteout, type MarkSpace, withoutMarks } from '../../tree/overlay-marks.ts';
import { type ByteString, displayBytes } from '../../util/byte-string.ts';
import type { TreeForm } from '../unpacker.ts';
import { unpackErrorOf } from './apply-error.ts';
import { describeDirectories } from './directory-attributes.ts';
import { OpBatch } from './op-batch.ts';
import { OverlayLayer } from './overlay-layer.ts';
import { PlainLayer } from './plain-layer.ts';
import { WrittenTree } from './written-tree.ts';

export interface LayerApplierOptions {
  /** What it throws ends the work. */
  readonly submit: (ops: readonly TreeOp[]) => void;
  readonly form: TreeForm;
  /** For messages. */
  readonly layerName: string;
  /** Most nodes of all layers, parents that no entry describes included; default 16 million. */
  readonly maxNodes?: number | undefined;
  /**
   * In the form `plain`, what overlayfs would take for its own:
   * - `refused` (default): the tree can be the lowest directory of an overlay. Attributes are left out, a device 0:0 is an error.
   * - `kept`: for a directory that is looked at by itself.
   */
  readonly overlayMarks?: 'refused' | 'kept' | undefined;
}

export interface AppliedLayers {
  /** Directories that the layers have something in and do not describe; clean paths, parents first, '' for the root. */
  readonly implied: readonly ByteString[];
  /**
   * Those of them that only hold what hides something, and directories like themselves: where no layer below has a directory there, nothing
   * is to be seen of them. Parents first.
   */
  readonly hiding: readonly ByteString[];
}

/**
 * Turns the entries of layers, as they come, into what is to be done in an empty directory, with the meaning that `mergeLayers` (plain) and
 * `layerTree` (overlay forms) give them. What it throws leaves it unusable.
 * Errors of all methods: ERR_UNPACK_ENTRY, ERR_UNPACK_LIMIT, in the overlay forms ERR_UNPACK_BELOW, each with the TreeError as its cause;
 * those of `submit`.
 */
export class LayerApplier {
  readonly #form: TreeForm;
  readonly #ops: OpBatch;
  readonly #budget: MergeBudget;
  readonly #overlay: OverlayLayer | undefined;
  readonly #tree: WrittenTree;
  /** Whose attributes are left out. */
  readonly #space: MarkSpace | undefined;
  #layerName: string;
  #merger: LayerMerger;
  #layer: PlainLayer;
  #begun = false;
  /** Stream offset where the last entry ends. */
  #end = 0;

  constructor({ submit, form, layerName, maxNodes, overlayMarks = 'refused' }: LayerApplierOptions) {
    this.#form = form;
    this.#layerName = layerName;
    this.#ops = new OpBatch(submit, () => this.#layerName);
    this.#budget = newBudget(maxNodes === undefined ? {} : { maxNodes });
    this.#overlay = form === 'plain' ? undefined : new OverlayLayer((entry, detail) => this.#below(entry, detail));
    this.#tree = new WrittenTree({ emit: (op) => this.#ops.add(op), watcher: this.#overlay });
    // Either kind of overlay may come over a plain tree.
    if (form === 'plain') this.#space = overlayMarks === 'kept' ? undefined : 'user';
    else this.#space = form === 'overlay-user' ? 'user' : 'trusted';
    this.#merger = this.#newMerger();
    this.#layer = new PlainLayer(this.#tree, this.#merger);
  }

  /**
   * What is taken from now on is of the next layer, or of the first if nothing was taken yet, and its bytes are in stream number `stream`.
   * Without it there is one layer, in stream 0.
   */
  beginLayer(stream: number, layerName: string): void {
    if (this.#begun && this.#form !== 'plain') throw new TypeError('an overlay directory has one layer');
    this.#guarded(() => {
      if (this.#begun) {
        this.#layer.end();
        this.#tree.beginLayer(stream);
      } else {
        this.#tree.setStream(stream);
      }
      this.#begun = true;
      this.#end = 0;
      this.#layerName = layerName;
      this.#merger = this.#newMerger();
      this.#layer = new PlainLayer(this.#tree, this.#merger);
    });
  }

  /** In archive order, in portions of any size. */
  take(entries: readonly TarEntry[]): void {
    this.#begun = true;
    this.#guarded(() => {
      for (const entry of entries) this.#takeOne(entry);
    });
  }

  /** All layers are here: submits whiteouts, opaque marks and the attributes of all directories. */
  finish(): AppliedLayers {
    return this.#guarded(() => {
      this.#layer.end();
      const tree = this.#tree;
      const emit = (op: TreeOp): void => this.#ops.add(op);
      const hidden = this.#overlay?.end(tree);
      for (const { dir, name } of hidden?.whiteouts ?? []) emit(whiteoutAt(tree.pathIn(dir, name)));
      const hiding = (hidden?.made ?? []).map((dir) => tree.pathOf(dir));
      const marks = hidden && { hidden, space: this.#space ?? 'trusted' };
      return { implied: describeDirectories({ tree, emit, marks }), hiding };
    });
  }

  #takeOne(entry: TarEntry): void {
    this.#end = checkNextExtents(entry, this.#layerName, this.#end);
    const path = this.#merger.pathOf(entry);
    const marker = this.#merger.markerAt(entry, path);
    if (marker !== undefined) {
      if (marker.kind !== 'meta') (this.#overlay ?? this.#layer).mark(entry, path, marker);
      return;
    }
    this.#tree.entryPath = path;
    const judged = this.#judged(entry);
    if (this.#overlay === undefined) {
      this.#layer.add(judged, path);
      return;
    }
    this.#overlay.at(entry);
    this.#merger.add(judged, path);
  }

  /** The entry without what would steer an overlay. */
  #judged(entry: TarEntry): TarEntry {
    if (this.#space === undefined) return entry;
    if (isWhiteout(entry)) {
      const detail = 'is the character device 0:0, which overlayfs takes for a deleted file';
      throw new TreeError('ERR_TREE_DEVICE', `${this.#nameOf(entry)} ${detail}`);
    }
    const xattrs = withoutMarks(entry.xattrs, this.#space);
    return xattrs === entry.xattrs ? entry : { ...entry, xattrs };
  }

  #newMerger(): LayerMerger {
    return new LayerMerger(this.#tree, this.#tree.layer, this.#budget, this.#layerName);
  }

  #below(entry: TarEntry, detail: string): TreeError {
    return new TreeError('ERR_TREE_BELOW', `${this.#nameOf(entry)} ${detail}`);
  }

  #nameOf(entry: TarEntry): string {
    return `entry ${displayBytes(entry.path)} of ${this.#layerName}`;
  }

  #guarded<T>(work: () => T): T {
    try {
      const result = work();
      this.#ops.flush();
      return result;
    } catch (error) {
      throw unpackErrorOf(error, this.#form);
    }
  }
}

function whiteoutAt(path: ByteString): TreeOp {
  const attributes = { mode: 0, uid: 0, gid: 0, mtime: 0, mtimeNs: 0, xattrs: new Map<string, Uint8Array>() };
  return { op: 'node', path, kind: 'char', major: 0, minor: 0, attributes };
}
