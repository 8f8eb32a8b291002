import type { BlobSource, SourceOptions } from './blob-source.ts';
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
  /** Default `tell`: who asks for ranges tries again by himself. */
  readonly whenAway?: SourceOptions['whenAway'];
  /** Called with the length of every piece that arrives. */
  readonly arrived: (bytes: number) => void;
  /**
   * Called with ranges that follow one another and their bytes, from the first byte of the first one on, in order; the transfer pauses until it
   * resolves.
   */
  readonly take: (ranges: readonly Range[], data: Uint8Array) => Promise<void>;
  /** Bytes of ranges that are waited for before some are handed over; default 0: each is at once. */
  readonly least?: number | undefined;
}

/**
 * Streams `ranges`, ascending, in one request. `blobSize`: as the index states it. Errors: those of the source; ERR_LAYER_SHORT; the signal's
 * reason.
 */
export async function receiveRun<Range extends BlobRange>(
  { source, blobSize }: { readonly source: BlobSource; readonly blobSize: number },
  ranges: readonly Range[],
  { signal, whenAway = 'tell', arrived, take, least = 0 }: ReceiveOptions<Range>,
): Promise<void> {
  const start = ranges[0]?.blobStart ?? 0;
  const end = ranges.at(-1)?.blobEnd ?? 0;
  const reader = await source.readRange(start, end, { signal, whenAway });
  const stop = () => reader.close();
  signal.addEventListener('abort', stop, { once: true });
  try {
    const bytes = new SpanAssembler(start);
    let next = 0;
    const handOver = async (atLeast: number) => {
      for (;;) {
        const group = groupAt(ranges, next, bytes.end, atLeast);
        const [first, last] = [group[0], group.at(-1)];
        const data = first && last && bytes.take(first.blobStart, last.blobEnd);
        if (data === undefined) return;
        next += group.length;
        await take(group, data);
      }
    };
    try {
      for await (const chunk of reader.body as AsyncIterable<Uint8Array>) {
        arrived(chunk.length);
        bytes.push(chunk);
        await handOver(least);
      }
    } finally {
      // What came before it broke off is not asked for again.
      if (!signal.aborted) await handOver(0);
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

/** The ranges from `next` on that are to be handed over when the blob is here up to `end`: up to a gap between two, and none while they may become more. */
function groupAt<Range extends BlobRange>(
  ranges: readonly Range[],
  next: number,
  end: number,
  least: number,
): readonly Range[] {
  const start = ranges[next]?.blobStart ?? 0;
  let [after, at] = [next, start];
  for (let range = ranges[after]; range !== undefined && range.blobEnd <= end; range = ranges[after]) {
    // Neighbours may share a byte.
    if (range.blobStart > at) break;
    at = range.blobEnd;
    after += 1;
  }
  const follower = ranges[after];
  const mayGrow = follower !== undefined && follower.blobStart <= at;
  return mayGrow && at - start < least ? [] : ranges.slice(next, after);
}
