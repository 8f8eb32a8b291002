import binding from 'zstd-napi/binding.js';
import { IndexError } from './errors.ts';

/** Decoded bytes handed out at a time: some 0.5 ms of work on the calling thread. */
const sliceSize = 512 << 10;
/** Largest window of a frame, as a power of two: what the zstd command accepts without being told to. */
const windowLogMax = 27;

/** The blob bytes that were taken, the bytes they gave, and whether a frame ended with them, a skippable one included. */
type OnStep = (blobBytes: Uint8Array, streamBytes: number, frameEnded: boolean) => void;

/**
 * Decodes zstd (RFC 8878: frames and skippable frames one after the other) slice by slice, so that neither a hostile frame
 * nor a large one takes memory or the thread. Frame sizes stated in the data are not believed.
 */
export class ZstdSlices {
  readonly #context = new binding.DCtx();
  readonly #output = Buffer.allocUnsafeSlow(sliceSize);
  readonly #onStep: OnStep | undefined;
  #inFrame = false;

  constructor(options: { onStep?: OnStep | undefined } = {}) {
    this.#onStep = options.onStep;
    this.#context.setParameter(binding.DParameter.windowLogMax, windowLogMax);
  }

  /** The bytes that `chunk` decodes to; a slice is valid until the next one is asked for. Errors: ERR_INDEX_LAYER. */
  *decode(chunk: Uint8Array): Generator<Uint8Array> {
    let rest = chunk;
    let full = false;
    while (rest.length > 0 || full) {
      const [hint, produced, consumed] = this.#step(rest);
      this.#onStep?.(rest.subarray(0, consumed), produced, hint === 0);
      rest = rest.subarray(consumed);
      // At the end of a frame (hint 0) nothing is left to flush, and asking for more would begin another frame.
      full = produced === sliceSize && hint !== 0;
      this.#inFrame = hint !== 0;
      if (produced > 0) yield this.#output.subarray(0, produced);
    }
  }

  /** Errors: ERR_INDEX_LAYER when the last frame is not complete. */
  finish(): void {
    if (this.#inFrame) throw new IndexError('ERR_INDEX_LAYER', 'zstd layer ends in the middle of a frame');
  }

  #step(input: Uint8Array): [number, number, number] {
    try {
      return this.#context.decompressStream(this.#output, input);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new IndexError('ERR_INDEX_LAYER', `zstd layer is damaged: ${reason}`, { cause: error });
    }
  }
}
