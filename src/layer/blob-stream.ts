import { backoffDelay, defaultBackoff, systemTimer } from '../util/backoff.ts';
import type { BlobSource } from './blob-source.ts';
import { LayerError, errorMessage } from './errors.ts';
import { isFinalFetchError } from './fetch-errors.ts';

export interface BlobStreamOptions {
  readonly signal?: AbortSignal | undefined;
  /** Failures in a row, without a byte between them, after which it gives up. */
  readonly attempts?: number | undefined;
  readonly onBytes?: ((done: number) => void) | undefined;
}

/**
 * All bytes of a blob of `size` bytes, in order. A transfer that breaks is resumed where it broke. Not verified: the reader hashes.
 * Errors: ERR_LAYER_FETCH, ERR_LAYER_SHORT; the signal's reason.
 */
export async function* blobStream(
  source: BlobSource,
  size: number,
  options: BlobStreamOptions = {},
): AsyncGenerator<Uint8Array> {
  const { signal, attempts = 6, onBytes } = options;
  let done = 0;
  let failures = 0;
  for (;;) {
    try {
      const reader = done === 0 ? await source.readAll({ signal }) : await source.readRange(done, size, { signal });
      try {
        for await (const chunk of reader.body as AsyncIterable<Uint8Array>) {
          done += chunk.length;
          failures = 0;
          onBytes?.(done);
          yield chunk;
        }
      } finally {
        reader.close();
      }
      if (done === size) return;
      throw new LayerError('ERR_LAYER_SHORT', `${source.name} has ${done} bytes, but the manifest says ${size}`);
    } catch (cause) {
      signal?.throwIfAborted();
      failures += 1;
      if (isFinalFetchError(cause, failures) || failures >= attempts) {
        if (cause instanceof LayerError) throw cause;
        throw new LayerError('ERR_LAYER_FETCH', `cannot download ${source.name}: ${errorMessage(cause)}`, { cause });
      }
      await systemTimer.sleep(backoffDelay(defaultBackoff, failures, Math.random()), signal);
    }
  }
}
