// Which spans go first when the cache is full: pure, so that it can be judged on any situation.
import type { Digest } from '../oci/digest.ts';

/** What is known of a lazy layer at one moment. */
export interface LazyLayer {
  readonly layer: Digest;
  readonly spanStarts: Float64Array;
  /** Per span, in seconds; `keepSpan` for one that must not go, or is not there. */
  readonly lastUsed: Uint32Array;
}

/** As the time of a span's last use: it stays. */
export const keepSpan = 0xffff_ffff;

/**
 * For each layer the spans to evict, ascending: those that were used longest ago over all of them, until they have `bytes` of stream
 * together or there are no more. None that was used at `usedBefore` or later. Within one second: in the order of the layers.
 */
export function oldestSpans(
  layers: readonly LazyLayer[],
  { bytes, usedBefore }: { readonly bytes: number; readonly usedBefore: number },
): Map<Digest, Uint32Array> {
  const cut = cutOf(layers, bytes, Math.min(usedBefore, keepSpan));
  const chosen = new Map<Digest, Uint32Array>();
  let left = cut.bytesAtSecond;
  for (const { layer, spanStarts, lastUsed } of layers) {
    const spans: number[] = [];
    for (let span = 0; span < lastUsed.length; span += 1) {
      const used = lastUsed[span] ?? keepSpan;
      if (used > cut.second || (used === cut.second && left <= 0)) continue;
      if (used === cut.second) left -= sizeOf(spanStarts, span);
      spans.push(span);
    }
    if (spans.length > 0) chosen.set(layer, Uint32Array.from(spans));
  }
  return chosen;
}

/** Everything before `second` goes, and `bytesAtSecond` of what was used in it. Times are whole seconds: there are few of them. */
function cutOf(
  layers: readonly LazyLayer[],
  bytes: number,
  usedBefore: number,
): { readonly second: number; readonly bytesAtSecond: number } {
  const perSecond = new Map<number, number>();
  for (const { spanStarts, lastUsed } of layers) {
    for (let span = 0; span < lastUsed.length; span += 1) {
      const used = lastUsed[span] ?? keepSpan;
      if (used < usedBefore) perSecond.set(used, (perSecond.get(used) ?? 0) + sizeOf(spanStarts, span));
    }
  }
  let left = bytes;
  let last = -1;
  for (const second of [...perSecond.keys()].sort((a, b) => a - b)) {
    const here = perSecond.get(second) ?? 0;
    if (left <= here) return { second, bytesAtSecond: left };
    left -= here;
    last = second;
  }
  return { second: last, bytesAtSecond: Infinity };
}

function sizeOf(spanStarts: Float64Array, span: number): number {
  return (spanStarts[span + 1] ?? 0) - (spanStarts[span] ?? 0);
}
