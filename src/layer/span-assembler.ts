/** Collects a range of the blob as it arrives and cuts out the spans in it, dropping what no later span needs. */
export class SpanAssembler {
  #chunks: Uint8Array[] = [];
  /** Blob offset of the first byte still held. */
  #start: number;
  #end: number;

  constructor(start: number) {
    this.#start = start;
    this.#end = start;
  }

  /** Blob offset just behind the last byte that arrived. */
  get end(): number {
    return this.#end;
  }

  push(chunk: Uint8Array): void {
    this.#chunks.push(chunk);
    this.#end += chunk.length;
  }

  /**
   * Blob bytes [from, to), or undefined while some are missing. Bytes before `from` are dropped; those of the range stay,
   * because the next span may begin in the last byte of this one.
   */
  take(from: number, to: number): Uint8Array | undefined {
    this.#dropBefore(from);
    if (this.#end < to) return undefined;
    const first = this.#chunks[0];
    const skip = from - this.#start;
    if (first !== undefined && first.length >= skip + (to - from)) return first.subarray(skip, skip + (to - from));
    return this.#copy(skip, to - from);
  }

  /** Over several chunks; those stay as they are, so that no byte is copied twice for one span. */
  #copy(skip: number, length: number): Uint8Array {
    const data = Buffer.allocUnsafeSlow(length);
    let filled = -skip;
    for (const chunk of this.#chunks) {
      data.set(chunk.subarray(Math.max(0, -filled), Math.max(0, length - filled)), Math.max(0, filled));
      filled += chunk.length;
      if (filled >= length) break;
    }
    return data;
  }

  #dropBefore(offset: number): void {
    let dropped = 0;
    for (const chunk of this.#chunks) {
      if (this.#start + chunk.length > offset) break;
      this.#start += chunk.length;
      dropped += 1;
    }
    if (dropped > 0) this.#chunks.splice(0, dropped);
  }
}
