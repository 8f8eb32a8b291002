// Brings a whole layer, its stream in order, and asks for so much ahead that requests are large and several run at once.
import type { SpanTable } from '../index/layer-index.ts';
import { untilAborted } from '../util/until-aborted.ts';
import { isSpanContentError, isWindowContentError } from './fetch-errors.ts';

export interface FillOptions {
  readonly signal: AbortSignal;
  /** All stream bytes before this offset are in the cache. Ascending; the last one is the stream's size. */
  readonly onProgress?: ((streamOffset: number) => void) | undefined;
}

export interface FillTarget {
  readonly spans: SpanTable;
  /** Resolves when the span is present. Errors: why it was given up. */
  readonly bring: (span: number) => Promise<void>;
}

/** Blob bytes asked for and not here: with less than `low` more are asked for, up to `high`. */
const ahead = { low: 32 << 20, high: 64 << 20 };
/** A span that is given up is asked for again, as long as others come: a slow line is no broken one. */
const maxAttempts = 4;

/** Errors: those of `bring`; the signal's reason. */
export async function fillLayer({ spans, bring }: FillTarget, { signal, onProgress }: FillOptions): Promise<void> {
  const asked = new Map<number, Promise<void>>();
  let landed = 0;
  const again = async (span: number): Promise<void> => {
    for (let attempt = 1; ; attempt += 1) {
      const before = landed;
      try {
        await bring(span);
        landed += 1;
        return;
      } catch (error) {
        const isWrong = isSpanContentError(error) || isWindowContentError(error);
        if (signal.aborted || isWrong || landed === before || attempt === maxAttempts) throw error;
      }
    }
  };
  let next = 0;
  for (let at = 0; at < spans.count; at += 1) {
    signal.throwIfAborted();
    if (next < spans.count && bytesBetween(spans, at, next) < ahead.low) {
      do {
        const coming = again(next);
        // Awaited when its turn comes, perhaps not before it fails.
        coming.catch(() => {});
        asked.set(next, coming);
        next += 1;
      } while (next < spans.count && bytesBetween(spans, at, next) < ahead.high);
    }
    await untilAborted(asked.get(at) ?? Promise.resolve(), signal);
    asked.delete(at);
    onProgress?.(spans.span(at).streamEnd);
  }
}

/** Blob bytes from the start of one span to the start of another. */
function bytesBetween(spans: SpanTable, from: number, to: number): number {
  return (to < spans.count ? spans.span(to).blobStart : spans.blobSize) - spans.span(from).blobStart;
}
