/** Stream bytes [start, end) of a regular file, or of one run of a sparse one. */
export interface FilePlace {
  readonly start: number;
  readonly end: number;
}

/** Where the files of one layer lie in its stream, without their names. */
export class FileMap {
  readonly #pairs: Float64Array;

  /** `pairs`: [start, end) one after the other, ascending and apart, as `treeExtents` gives them for one device. */
  constructor(pairs: Float64Array) {
    this.#pairs = pairs;
  }

  get count(): number {
    return this.#pairs.length / 2;
  }

  /** The file that has stream byte `offset`. */
  fileAt(offset: number): FilePlace | undefined {
    const file = this.#file(this.#endingBehind(offset));
    return file !== undefined && file.start <= offset ? file : undefined;
  }

  /** The first file that starts at `offset` or behind it. */
  nextFile(offset: number): FilePlace | undefined {
    const index = this.#endingBehind(offset);
    const file = this.#file(index);
    return file !== undefined && file.start < offset ? this.#file(index + 1) : file;
  }

  /** The last file that ends at `offset` or before it. */
  previousFile(offset: number): FilePlace | undefined {
    return this.#file(this.#endingBehind(offset) - 1);
  }

  #file(index: number): FilePlace | undefined {
    const start = this.#pairs[2 * index];
    const end = this.#pairs[2 * index + 1];
    return start === undefined || end === undefined ? undefined : { start, end };
  }

  /** Number of the first file that ends behind `offset`. */
  #endingBehind(offset: number): number {
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#pairs[2 * middle + 1] as number) <= offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
