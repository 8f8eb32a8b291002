import type { Span, SpanTable } from '../index/layer-index.ts';
import type { BlobSource } from './blob-source.ts';
import { LayerError } from './errors.ts';
import { SpanAssembler } from './span-assembler.ts';

export interface ReceiveOptions {
  /** Ends the transfer at once. */
  readonly signal: AbortSignal;
  /** Called with every piece that arrives. */
  readonly alive: () => void;
  /** Called with each span's blob bytes, in order; the transfer pauses until it resolves. */
  readonly take: (span: Span, data: Uint8Array) => Promise<void>;
}

/** Streams the spans of `run`, ascending, in one request. Errors: those of the source; ERR_LAYER_SHORT; the signal's reason. */
export async function receiveRun(
  { spans, source }: { readonly spans: SpanTable; readonly source: BlobSource },
  run: readonly number[],
  { signal, alive, take }: ReceiveOptions,
): Promise<void> {
  const ranges = run.map((index) => spans.span(index));
  const start = ranges[0]?.blobStart ?? 0;
  const end = ranges.at(-1)?.blobEnd ?? 0;
  const reader = await source.readRange(start, end, { signal });
  const stop = () => reader.close();
  signal.addEventListener('abort', stop, { once: true });
  try {
    const bytes = new SpanAssembler(start);
    let next = 0;
    for await (const chunk of reader.body as AsyncIterable<Uint8Array>) {
      alive();
      bytes.push(chunk);
      for (let span = ranges[next]; span !== undefined; span = ranges[next]) {
        const data = bytes.take(span.blobStart, span.blobEnd);
        if (data === undefined) break;
        next += 1;
        await take(span, data);
      }
    }
    signal.throwIfAborted();
    if (next < ranges.length) {
      throw new LayerError(
        'ERR_LAYER_SHORT',
        `${source.name} ends at byte ${bytes.end}, but its index has spans up to byte ${spans.blobSize}`,
      );
    }
  } finally {
    signal.removeEventListener('abort', stop);
    reader.close();
  }
}
