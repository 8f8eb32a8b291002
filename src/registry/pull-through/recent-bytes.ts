/** What a chunk costs beside its bytes, so that many tiny ones are bounded too. */
const chunkOverhead = 256;

/** The last bytes of a stream that went by, in as much memory as `limit` says, or in its last chunk. */
export class RecentBytes {
  readonly #limit: number;
  readonly #chunks: Uint8Array[] = [];
  #held = 0;
  /** Of the first chunk held. */
  #start = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  add(chunk: Uint8Array): void {
    this.#chunks.push(chunk);
    this.#held += chunk.byteLength + chunkOverhead;
    while (this.#held > this.#limit && this.#chunks.length > 1) {
      const { byteLength = 0 } = this.#chunks.shift() ?? {};
      this.#held -= byteLength + chunkOverhead;
      this.#start += byteLength;
    }
  }

  /** What follows `position` in its chunk; undefined when it is gone, or not there yet. */
  at(position: number): Uint8Array | undefined {
    let start = this.#start;
    if (position < start) return undefined;
    for (const chunk of this.#chunks) {
      const end = start + chunk.byteLength;
      if (position < end) return chunk.subarray(position - start);
      start = end;
    }
    return undefined;
  }
}
