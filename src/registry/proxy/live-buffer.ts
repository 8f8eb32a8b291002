import { Deferred } from '../../util/deferred.ts';
import { untilAborted } from '../../util/until-aborted.ts';

/** `behind`: there is more, which the reader has to get elsewhere. */
export type LiveEnd = 'complete' | 'behind';

/** What a chunk costs beside its bytes, so that many tiny ones are bounded too. */
const chunkOverhead = 256;

/** Bytes on their way from a download to one reader, which never holds the download up: a buffer that is full is cut off there. */
export class LiveBuffer {
  readonly #limit: number;
  #chunks: Uint8Array[] = [];
  #held = 0;
  #taken = 0;
  #end: LiveEnd | undefined;
  #failure: { readonly error: unknown } | undefined;
  #changed = new Deferred<void>();

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Bytes the reader has got. */
  get taken(): number {
    return this.#taken;
  }

  /** Adds bytes, or ends with `behind` when there is no room for them. */
  offer(chunk: Uint8Array): void {
    if (this.#held >= this.#limit) this.finish('behind');
    else this.add(chunk);
  }

  /** Adds bytes in any case; for a writer that waited for `room`. */
  add(chunk: Uint8Array): void {
    if (this.#ended) return;
    this.#chunks.push(chunk);
    this.#held += chunk.byteLength + chunkOverhead;
    this.#wake();
  }

  /** Resolves when there is room; false when nothing is taken any more. Errors: the signal's reason. */
  async room(signal: AbortSignal): Promise<boolean> {
    while (!this.#ended && this.#held >= this.#limit) await untilAborted(this.#changed.promise, signal);
    return !this.#ended;
  }

  /** What was added before is still read. */
  finish(end: LiveEnd): void {
    if (this.#ended) return;
    this.#end = end;
    this.#wake();
  }

  fail(error: unknown): void {
    if (this.#ended) return;
    this.#failure = { error };
    this.#wake();
  }

  /** The reader has left. */
  close(): void {
    this.finish('behind');
    this.#chunks = [];
    this.#held = 0;
  }

  /** Errors: what the writer failed with; the signal's reason. */
  async *read(signal: AbortSignal): AsyncGenerator<Uint8Array, LiveEnd> {
    for (;;) {
      const chunk = this.#chunks.shift();
      if (chunk !== undefined) {
        this.#held -= chunk.byteLength + chunkOverhead;
        this.#taken += chunk.byteLength;
        this.#wake();
        yield chunk;
        continue;
      }
      if (this.#failure !== undefined) throw this.#failure.error;
      if (this.#end !== undefined) return this.#end;
      await untilAborted(this.#changed.promise, signal);
    }
  }

  get #ended(): boolean {
    return this.#end !== undefined || this.#failure !== undefined;
  }

  #wake(): void {
    const changed = this.#changed;
    this.#changed = new Deferred();
    changed.resolve();
  }
}
