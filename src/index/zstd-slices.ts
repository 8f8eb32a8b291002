import binding from 'zstd-napi/binding.js';
import { IndexError } from './errors.ts';

/** Decoded bytes handed out at a time: some 0.5 ms of work on the calling thread. */
const sliceSize = 512 << 10;
/** Largest window of a frame, as a power of two: what the zstd command accepts without being told to. */
const windowLogMax = 27;

/**
 * Decodes zstd (RFC 8878: frames and skippable frames one after the other) slice by slice, so that neither a hostile frame
 * nor a large one takes memory or the thread. Frame sizes stated in the data are not believed.
 */
export class ZstdSlices {
  readonly #context = new binding.DCtx();
  readonly #limit: number;
  #total = 0;
  #inFrame = false;

  /** `limit`: most decoded bytes. */
  constructor(limit: number) {
    this.#limit = limit;
    this.#context.setParameter(binding.DParameter.windowLogMax, windowLogMax);
  }

  /** The bytes that `chunk` decodes to; each slice is the caller's. Errors: ERR_INDEX_LAYER, ERR_INDEX_LIMIT. */
  *decode(chunk: Uint8Array): Generator<Uint8Array> {
    let rest = chunk;
    let full = false;
    while (rest.length > 0 || full) {
      const output = Buffer.allocUnsafeSlow(sliceSize);
      const [hint, produced, consumed] = this.#step(output, rest);
      rest = rest.subarray(consumed);
      full = produced === output.length;
      this.#inFrame = hint !== 0;
      this.#total += produced;
      if (this.#total > this.#limit) {
        throw new IndexError('ERR_INDEX_LIMIT', `zstd layer decodes to more than ${this.#limit} bytes`);
      }
      if (produced > 0) yield output.subarray(0, produced);
    }
  }

  /** Errors: ERR_INDEX_LAYER when the last frame is not complete. */
  finish(): void {
    if (this.#inFrame) throw new IndexError('ERR_INDEX_LAYER', 'zstd layer ends in the middle of a frame');
  }

  #step(output: Uint8Array, input: Uint8Array): [number, number, number] {
    try {
      return this.#context.decompressStream(output, input);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new IndexError('ERR_INDEX_LAYER', `zstd layer is damaged: ${reason}`, { cause: error });
    }
  }
}
