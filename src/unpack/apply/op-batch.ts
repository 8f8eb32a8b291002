import type { TreeOp } from '../../native/tree-ops.ts';
import { UnpackError } from '../errors.ts';

const maxOps = 2048;
/** Characters of paths and targets: deep trees have long ones. */
const maxText = 1024 * 1024;
/** Of all operations. No path that programs can use comes near it; chains of thousands of directories cost its square. */
const allText = 64 * 1024 * 1024;
const textPerOp = 4096;

/** Collects operations and hands them on in portions that are worth the way and never large. */
export class OpBatch {
  readonly #submit: (ops: readonly TreeOp[]) => void;
  readonly #layerName: () => string;
  #ops: TreeOp[] = [];
  #text = 0;
  #textLeft = allText;

  constructor(submit: (ops: readonly TreeOp[]) => void, layerName: () => string) {
    this.#submit = submit;
    this.#layerName = layerName;
  }

  /** Errors: ERR_UNPACK_LIMIT for too many long paths; those of whom it is handed to. */
  add(op: TreeOp): void {
    this.#textLeft += textPerOp - op.path.length;
    if (this.#textLeft < 0) {
      throw new UnpackError('ERR_UNPACK_LIMIT', `${this.#layerName()} has more long paths than the limit`);
    }
    this.#ops.push(op);
    this.#text += op.path.length;
    if (op.op === 'symlink') this.#text += op.target.length;
    if (this.#ops.length >= maxOps || this.#text >= maxText) this.flush();
  }

  /** Hands on what is there. Errors: as of `add`. */
  flush(): void {
    if (this.#ops.length === 0) return;
    const ops = this.#ops;
    this.#ops = [];
    this.#text = 0;
    this.#submit(ops);
  }
}
