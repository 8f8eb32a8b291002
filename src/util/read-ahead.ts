import { setImmediate as turn } from 'node:timers/promises';
import { Deferred } from './deferred.ts';

/**
 * The bytes of `source` in pieces of up to `size` bytes, read on while the piece before is in use: large pieces from a source that is
 * fast, small ones at once from one that is slow. A piece is valid until the next is asked for; memory is twice `size`.
 *
 * Who leaves early does not wait for bytes that may never come: the source ends with what it is waiting for then.
 * Errors: those of `source`, behind the bytes that came before.
 */
export async function* readAhead(source: AsyncIterable<Uint8Array>, size: number): AsyncGenerator<Uint8Array> {
  const filler = new Filler(source, size);
  const filled = filler.run();
  try {
    for (let piece = await filler.take(); piece !== undefined; piece = await filler.take()) yield piece;
  } finally {
    filler.leave();
    // A source that has something to give ends now; one that has not may be waiting for ever.
    await Promise.race([filled, turn()]);
  }
}

/** Two pieces of memory: one is filled while the other is used. */
class Filler {
  readonly #source: AsyncIterable<Uint8Array>;
  readonly #size: number;
  #filling: Buffer;
  #inUse: Buffer;
  #length = 0;
  #changed = new Deferred<void>();
  #ended = false;
  #left = false;
  #failure: { readonly error: unknown } | undefined;

  constructor(source: AsyncIterable<Uint8Array>, size: number) {
    this.#source = source;
    this.#size = size;
    this.#filling = Buffer.allocUnsafeSlow(size);
    this.#inUse = Buffer.allocUnsafeSlow(size);
  }

  /** Never rejects. */
  async run(): Promise<void> {
    try {
      for await (const chunk of this.#source) {
        await this.#keep(chunk);
        if (this.#left) return;
      }
    } catch (error) {
      this.#failure = { error };
    } finally {
      this.#ended = true;
      this.#wake();
    }
  }

  /** Undefined at the end. Errors: those of the source. */
  async take(): Promise<Uint8Array | undefined> {
    while (this.#length === 0 && !this.#ended) await this.#changed.promise;
    if (this.#length === 0) {
      if (this.#failure !== undefined) throw this.#failure.error;
      return undefined;
    }
    const piece = this.#filling.subarray(0, this.#length);
    [this.#filling, this.#inUse] = [this.#inUse, this.#filling];
    this.#length = 0;
    this.#wake();
    return piece;
  }

  leave(): void {
    this.#left = true;
    this.#wake();
  }

  async #keep(chunk: Uint8Array): Promise<void> {
    for (let rest = chunk; rest.length > 0 && !this.#left; ) {
      const part = rest.subarray(0, this.#size - this.#length);
      if (part.length === 0) {
        await this.#changed.promise;
        continue;
      }
      this.#filling.set(part, this.#length);
      this.#length += part.length;
      rest = rest.subarray(part.length);
      this.#wake();
    }
  }

  #wake(): void {
    this.#changed.resolve();
    this.#changed = new Deferred();
  }
}
