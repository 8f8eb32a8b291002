import type { BlobSource } from './blob-source.ts';
import { LayerError } from './errors.ts';
import { TransferRetries } from './transfer-retries.ts';
import type { TransferRetriesOptions } from './transfer-retries.ts';

export interface BlobStreamOptions extends TransferRetriesOptions {
  readonly signal?: AbortSignal | undefined;
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
  const { signal, onBytes } = options;
  const retries = new TransferRetries(source.name, options);
  let done = 0;
  for (;;) {
    try {
      const reader = done === 0 ? await source.readAll({ signal }) : await source.readRange(done, size, { signal });
      try {
        for await (const chunk of reader.body as AsyncIterable<Uint8Array>) {
          done += chunk.length;
          retries.progressed();
          onBytes?.(done);
          yield chunk;
        }
      } finally {
        reader.close();
      }
      if (done === size) return;
      throw new LayerError('ERR_LAYER_SHORT', `${source.name} has ${done} bytes, but the manifest says ${size}`);
    } catch (cause) {
      await retries.failed(cause, signal);
    }
  }
}
