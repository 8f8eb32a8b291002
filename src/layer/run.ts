import type { SpanTable } from '../index/layer-index.ts';

export interface RunLimits {
  /** Bytes of blob in one request; a single larger span is still one request. */
  readonly maxBytes: number;
  /** Bytes between two wanted spans that are read through rather than asking twice. */
  readonly maxGap: number;
}

/** Which spans a request may bring. */
export interface RunWishes {
  /** What the request is made for. */
  has(span: number): boolean;
  /** What others want less urgently: taken along where it costs little. */
  isCompanion?(span: number): boolean;
}

/** Bytes of companions beyond the last wanted span of a run, to either side. */
const companionBytes = 128 << 10;

/**
 * The wanted spans that one request should bring, ascending: `seed` and its wanted neighbours on both sides, as far as gaps
 * and size allow, and companions between and beside them. `wishes` must have `seed`.
 */
export function chooseRun(spans: SpanTable, wishes: RunWishes, seed: number, limits: RunLimits): number[] {
  const { blobStart, blobEnd } = spans.span(seed);
  const budget = limits.maxBytes - (blobEnd - blobStart);
  const after = extend(spans, wishes, seed, { budget, maxGap: limits.maxGap, step: 1 });
  const before = extend(spans, wishes, seed, { budget: budget - after.bytes, maxGap: limits.maxGap, step: -1 });
  return [...before.spans.reverse(), seed, ...after.spans];
}

interface Extent {
  readonly budget: number;
  readonly maxGap: number;
  readonly step: 1 | -1;
}

function extend(
  spans: SpanTable,
  wishes: RunWishes,
  seed: number,
  { budget, maxGap, step }: Extent,
): { spans: number[]; bytes: number } {
  const from = spans.span(seed);
  const taken: number[] = [];
  let bytes = 0;
  // Since the last span that is taken, and since the last one that the request is made for.
  let gap = 0;
  let aside = 0;
  for (let at = seed + step; at >= 0 && at < spans.count; at += step) {
    const span = spans.span(at);
    const size = span.blobEnd - span.blobStart;
    const reach = step > 0 ? span.blobEnd - from.blobEnd : from.blobStart - span.blobStart;
    if (reach > budget) break;
    const isWanted = wishes.has(at);
    aside = isWanted ? 0 : aside + size;
    if (aside > Math.max(maxGap, companionBytes)) break;
    if (isWanted || wishes.isCompanion?.(at) === true) {
      taken.push(at);
      bytes = reach;
      gap = 0;
    } else {
      gap += size;
      if (gap > maxGap) break;
    }
  }
  return { spans: taken, bytes };
}
