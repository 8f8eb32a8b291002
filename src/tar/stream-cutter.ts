import { TAR_BLOCK } from './header.ts';

export interface CutterTarget {
  /** A 512-byte block at `buffer[at, at + 512)`, valid during the call. */
  readonly onBlock: (buffer: Buffer, at: number) => void;
  /** What `collect` asked for, in a buffer of its own. */
  readonly onBytes: (bytes: Buffer) => void;
}

/**
 * Cuts a stream that comes in pieces of any size into 512-byte blocks. From within a call the target may ask for something
 * else once: the next bytes as one buffer (`collect`), to pass over bytes (`skip`), or over all that is left (`skipRest`).
 * Blocks that lie whole in a piece, and skipped bytes, are not copied.
 */
export class StreamCutter {
  readonly #target: CutterTarget;
  readonly #block = Buffer.alloc(TAR_BLOCK);
  #blockFill = 0;
  #bytes: Buffer | undefined;
  #bytesFill = 0;
  #skip = 0;
  #position: number;

  constructor(target: CutterTarget, position: number) {
    this.#target = target;
    this.#position = position;
  }

  /** Stream offset of the next byte to take; behind the block or bytes within a call. */
  get position(): number {
    return this.#position;
  }

  /** The bytes of a block that is not complete yet. */
  get partialBlock(): Uint8Array {
    return this.#block.subarray(0, this.#blockFill);
  }

  /** Delivers the next `size` bytes to `onBytes`. */
  collect(size: number): void {
    if (size === 0) {
      this.#target.onBytes(Buffer.alloc(0));
      return;
    }
    this.#bytes = Buffer.allocUnsafe(size);
    this.#bytesFill = 0;
  }

  skip(size: number): void {
    this.#skip = size;
  }

  /** How many of the next bytes are passed over. */
  get toSkip(): number {
    return this.#skip;
  }

  /** Moves on by `size` bytes, at most `toSkip`, that are not pushed. */
  advance(size: number): void {
    this.#skip -= size;
    this.#position += size;
  }

  skipRest(): void {
    this.#skip = Infinity;
  }

  push(chunk: Buffer): void {
    for (let at = 0; at < chunk.length; ) {
      if (this.#skip > 0) {
        const taken = Math.min(this.#skip, chunk.length - at);
        this.#skip -= taken;
        this.#position += taken;
        at += taken;
      } else {
        at += this.#bytes === undefined ? this.#takeBlock(chunk, at) : this.#takeBytes(this.#bytes, chunk, at);
      }
    }
  }

  #takeBlock(chunk: Buffer, at: number): number {
    if (this.#blockFill === 0 && chunk.length - at >= TAR_BLOCK) {
      this.#position += TAR_BLOCK;
      this.#target.onBlock(chunk, at);
      return TAR_BLOCK;
    }
    const taken = chunk.copy(this.#block, this.#blockFill, at);
    this.#blockFill += taken;
    this.#position += taken;
    if (this.#blockFill === TAR_BLOCK) {
      this.#blockFill = 0;
      this.#target.onBlock(this.#block, 0);
    }
    return taken;
  }

  #takeBytes(bytes: Buffer, chunk: Buffer, at: number): number {
    const taken = chunk.copy(bytes, this.#bytesFill, at);
    this.#bytesFill += taken;
    this.#position += taken;
    if (this.#bytesFill === bytes.length) {
      this.#bytes = undefined;
      this.#target.onBytes(bytes);
    }
    return taken;
  }
}
