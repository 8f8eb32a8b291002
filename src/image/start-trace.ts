// What one start of an image read, waited for and fetched, as it is kept. Times are ms from the beginning of the start; bytes are of blobs unless said otherwise.
import type { FetchClass } from '../layer/fetch-class.ts';
import type { Digest } from '../oci/digest.ts';

export interface StartTrace {
  readonly version: 1;
  /** How long it was watched. */
  readonly ms: number;
  /** It was watched to its end. */
  readonly over: boolean;
  /** Lowest first. */
  readonly layers: readonly TracedLayer[];
  /** By time; where there were too many, those that waited longest. */
  readonly stalls: readonly TracedStall[];
  readonly stallsLeftOut: number;
  readonly totals: StartTotals;
}

export interface TracedLayer {
  readonly digest: Digest;
  /** Of its index. */
  readonly spans: number;
  readonly streamBytes: number;
  /** What was not in the cache when it began. */
  readonly missingSpans: number;
  readonly missingBytes: number;
  /** Spans in the order they were first read, each with its time; the first ones where there were too many. */
  readonly touched: readonly (readonly [span: number, at: number])[];
  readonly touchesLeftOut: number;
}

/** One read that had to wait. */
export interface TracedStall {
  /** Place in `layers`. */
  readonly layer: number;
  /** Stream bytes. */
  readonly offset: number;
  readonly length: number;
  readonly at: number;
  readonly ms: number;
  /** Name of the errno that the read got. */
  readonly error?: string;
  /** Stream bytes of the spans that hold what was read. */
  readonly spanBytes: number;
  /** The span before the first of these had been read before. */
  readonly follows: boolean;
  /** What came for it; nothing where another process fetched it, or nobody could. */
  readonly fetch?: TracedFetch;
}

export interface TracedFetch {
  /** Why the span that came last had been asked for. */
  readonly fetchClass: FetchClass;
  readonly bytes: number;
  /** When the first of them was asked for, and when the last request was sent. */
  readonly askedAt: number;
  readonly sentAt: number;
  /** Requests that failed before. */
  readonly retries: number;
  /** Where it came from. */
  readonly source: string;
}

export interface StartTotals {
  /** Of the spans that were read. */
  readonly touchedSpans: number;
  readonly neededBytes: number;
  /** The part of them that was in the cache at the beginning. */
  readonly cachedBytes: number;
  readonly fetched: Readonly<Record<FetchClass, FetchedTotal>>;
  /** While any request was under way. */
  readonly fetchingMs: number;
  readonly retries: number;
  readonly stalls: number;
  readonly failedReads: number;
  /** While any read waited. */
  readonly waitedMs: number;
}

export interface FetchedTotal {
  readonly spans: number;
  readonly bytes: number;
  /** Of spans that were read. */
  readonly usedBytes: number;
}

/** Undefined when another peel wrote it. */
export function parseStartTrace(json: string): StartTrace | undefined {
  const value = JSON.parse(json) as { version?: unknown };
  return value.version === 1 ? (value as StartTrace) : undefined;
}
