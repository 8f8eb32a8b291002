import type { Digest } from '../oci/digest.ts';

/** The part of a lazy layer's block cache that can be given up and fetched again. */
export interface Evictable {
  readonly layer: Digest;
  /** Stream offset of every span and, last, the end of the stream. */
  readonly spanStarts: Float64Array;
  /** Nothing of it can be evicted. */
  readonly complete: boolean;
  /** Can be passed on by itself. */
  readonly isPresent: (span: number) => boolean;
  /** When each span was last read by any process: seconds of `coarseNow()`; 0 when nobody read it in this boot. A copy. */
  lastUsed(): Uint32Array;
  coarseNow(): number;
  /** Frees their room on disk; those that are read at that moment, or gone, are left out. Errors: errno codes. */
  evict(spans: Uint32Array): Promise<{ readonly evicted: number; readonly bytes: number }>;
}
