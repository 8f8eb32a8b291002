import { Readable } from 'node:stream';

/**
 * A byte stream over an async iterator that ends at once when it is destroyed. `Readable.from` would first wait for the iterator's
 * pending step, which may be a network read that never comes; here `onClose` is what interrupts it.
 */
export class PulledStream extends Readable {
  readonly #iterator: AsyncIterator<Uint8Array>;
  readonly #onClose: () => void;

  constructor(chunks: AsyncIterable<Uint8Array>, onClose: () => void) {
    super({ highWaterMark: 256 * 1024 });
    this.#iterator = chunks[Symbol.asyncIterator]();
    this.#onClose = onClose;
  }

  override _read(): void {
    this.#iterator.next().then(
      ({ done, value }) => void this.push(done === true ? null : value),
      (error: Error) => void this.destroy(error),
    );
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#onClose();
    this.#iterator.return?.().catch(() => {});
    callback(error);
  }
}
