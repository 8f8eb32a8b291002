import type { BlobSource } from './blob-source.ts';
import { LayerError } from './errors.ts';
import { SpanAssembler } from './span-assembler.ts';

/** Half-open range of a blob, bytes. */
export interface BlobRange {
  readonly blobStart: number;
  readonly blobEnd: number;
}

export interface ReceiveOptions<Range extends BlobRange> {
  /** Ends the transfer at once. */
  readonly signal: AbortSignal;
  /** Called with the length of every piece that arrives. */
  readonly arrived: (bytes: number) => void;
  /** Called with the bytes of each range, in order; the transfer pauses until it resolves. */
  readonly take: (range: Range, data: Uint8Array) => Promise<void>;
}

/**
 * Streams `ranges`, ascending, in one request. `blobSize`: as the index states it. Errors: those of the source; ERR_LAYER_SHORT; the signal's
 * reason.
 */
export async function receiveRun<Range extends BlobRange>(
  { source, blobSize }: { readonly source: BlobSource; readonly blobSize: number },
  ranges: readonly Range[],
  { signal, arrived, take }: ReceiveOptions<Range>,
): Promise<void> {
  const start = ranges[0]?.blobStart ?? 0;
  const end = ranges.at(-1)?.blobEnd ?? 0;
  const reader = await source.readRange(start, end, { signal });
  const stop = () => reader.close();
  signal.addEventListener('abort', stop, { once: true });
  try {
    const bytes = new SpanAssembler(start);
    let next = 0;
    for await (const chunk of reader.body as AsyncIterable<Uint8Array>) {
      arrived(chunk.length);
      bytes.push(chunk);
      for (let range = ranges[next]; range !== undefined; range = ranges[next]) {
        const data = bytes.take(range.blobStart, range.blobEnd);
        if (data === undefined) break;
        next += 1;
        await take(range, data);
      }
    }
    signal.throwIfAborted();
    if (next < ranges.length) {
      throw new LayerError(
        'ERR_LAYER_SHORT',
        `${source.name} ends at byte ${bytes.end}, but its index says that it has ${blobSize}`,
      );
    }
  } finally {
    signal.removeEventListener('abort', stop);
    reader.close();
  }
}
