import type { Descriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';

/** Half-open. */
export type SpanRange = readonly [start: number, end: number];

/** The spans of one layer that a start-up of its image touches. */
export interface ProfileLayer {
  /** Digest of the layer blob. */
  readonly layer: Digest;
  /** Digest of the manifest of the index whose spans are counted. */
  readonly index: Digest;
  readonly format: 'peel' | 'soci-v1' | 'soci-v2';
  /** Of that index. */
  readonly spanCount: number;
  /** Starts that were merged in it. */
  readonly runs: number;
  /** Each once, in the order to fetch. */
  readonly spans: readonly number[];
}

/** The manifest of a profile. */
export interface ProfileManifest {
  /** The image manifest it is for. */
  readonly subject: Descriptor;
  /** What `readProfileSpans` reads. */
  readonly spans: Descriptor;
  /** RFC 3339, as its annotation says; undefined when it does not. */
  readonly created: string | undefined;
}

/** Spans in order as ranges in that order: neighbours that ascend are one. */
export function rangesOf(spans: readonly number[]): SpanRange[] {
  const ranges: [number, number][] = [];
  for (const span of spans) {
    const last = ranges.at(-1);
    if (last?.[1] === span) last[1] = span + 1;
    else ranges.push([span, span + 1]);
  }
  return ranges;
}
