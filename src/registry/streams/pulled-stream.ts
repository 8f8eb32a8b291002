import { Readable } from 'node:stream';

/**
 * A byte stream over an async iterator that ends at once when it is destroyed. `Readable.from` would first wait for the iterator's
 * pending step, which may be a network read that never comes; here `onClose` is what interrupts it.
 *
 * `for await` over it takes from the iterator directly: blobs pass through several of these, and the stream's own buffer would cost the event loop as
 * much as all else for each piece.
 */
export class PulledStream extends Readable {
  readonly #iterator: AsyncIterator<Uint8Array>;
  readonly #onClose: () => void;
  /** Ends the step that a `for await` waits for. */
  #interrupt: ((reason: unknown) => void) | undefined;
  #isRead = false;

  constructor(chunks: AsyncIterable<Uint8Array>, onClose: () => void) {
    super({ highWaterMark: 256 * 1024 });
    this.#iterator = chunks[Symbol.asyncIterator]();
    this.#onClose = onClose;
  }

  override [Symbol.asyncIterator](): NodeJS.AsyncIterator<Uint8Array> {
    // What is in the buffer comes first.
    if (this.#isRead) return super[Symbol.asyncIterator]();
    this.#isRead = true;
    // Whoever iterates is told by the step that fails.
    this.on('error', () => {});
    let isEnded = false;
    const end = async (): Promise<IteratorReturnResult<undefined>> => {
      isEnded = true;
      this.destroy();
      return { done: true, value: undefined };
    };
    return {
      next: async () => (isEnded ? await end() : ((await this.#step()) ?? (await end()))),
      return: end,
      [Symbol.asyncIterator]() {
        return this;
      },
      [Symbol.asyncDispose]: async () => void (await end()),
    };
  }

  override _read(): void {
    this.#isRead = true;
    this.#iterator.next().then(
      ({ done, value }) => void this.push(done === true ? null : value),
      (error: Error) => void this.destroy(error),
    );
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#onClose();
    this.#interrupt?.(error ?? closedEarly());
    this.#iterator.return?.().catch(() => {});
    callback(error);
  }

  /** Undefined at the end. */
  #step(): Promise<IteratorYieldResult<Uint8Array> | undefined> {
    return new Promise((resolve, reject) => {
      if (this.destroyed) {
        reject(this.errored ?? closedEarly());
        return;
      }
      this.#interrupt = reject;
      this.#iterator.next().then(
        (result) => resolve(result.done === true ? undefined : result),
        (error: Error) => {
          this.destroy(error);
          reject(error);
        },
      );
    });
  }
}

/** As of other streams. */
function closedEarly(): Error {
  return Object.assign(new Error('Premature close'), { code: 'ERR_STREAM_PREMATURE_CLOSE' });
}
