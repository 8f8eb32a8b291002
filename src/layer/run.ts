import type { SpanTable } from '../index/layer-index.ts';

export interface RunLimits {
  /** Bytes of blob in one request; a single larger span is still one request. */
  readonly maxBytes: number;
  /** Bytes between two wanted spans that are read through rather than asking twice. */
  readonly maxGap: number;
}

export const defaultRunLimits: RunLimits = { maxBytes: 8 << 20, maxGap: 64 << 10 };

/**
 * The wanted spans that one request should bring, ascending: `seed` and its wanted neighbours on both sides, as far as gaps
 * and size allow. `wanted` must contain `seed`.
 */
export function chooseRun(
  spans: SpanTable,
  wanted: { has(span: number): boolean },
  seed: number,
  limits: RunLimits,
): number[] {
  const { blobStart, blobEnd } = spans.span(seed);
  const after = extend(spans, wanted, seed, limits.maxBytes - (blobEnd - blobStart), limits.maxGap, 1);
  const before = extend(spans, wanted, seed, limits.maxBytes - (blobEnd - blobStart) - after.bytes, limits.maxGap, -1);
  return [...before.spans.reverse(), seed, ...after.spans];
}

function extend(
  spans: SpanTable,
  wanted: { has(span: number): boolean },
  seed: number,
  budget: number,
  maxGap: number,
  step: 1 | -1,
): { spans: number[]; bytes: number } {
  const from = spans.span(seed);
  const taken: number[] = [];
  let bytes = 0;
  let gap = 0;
  for (let at = seed + step; at >= 0 && at < spans.count; at += step) {
    const span = spans.span(at);
    const reach = step > 0 ? span.blobEnd - from.blobEnd : from.blobStart - span.blobStart;
    if (reach > budget) break;
    if (wanted.has(at)) {
      taken.push(at);
      bytes = reach;
      gap = 0;
    } else {
      gap += span.blobEnd - span.blobStart;
      if (gap > maxGap) break;
    }
  }
  return { spans: taken, bytes };
}
