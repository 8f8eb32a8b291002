// One pass over a cache that is too full: whole things first, which nobody uses, then spans of layers that are in use.
import type { Evictable } from '../layer/evictable.ts';
import type { Digest } from '../oci/digest.ts';
import { ProtectedSpans } from './protected-spans.ts';
import { keepSpan, oldestSpans } from './oldest-spans.ts';
import type { LazyLayer } from './oldest-spans.ts';

/** What a cache consists of, for who makes room in it. */
export interface CacheStock {
  /** Bytes on disk, measured. */
  usedBytes(): Promise<number>;
  /** Compressed layers, then layers that nobody uses or shows, least recently used first, for as long as `more` says so. */
  removeWhole(more: (freedBytes: number) => boolean): Promise<{ readonly removed: readonly Digest[] }>;
  /** Layers of which spans may go, least recently used first. */
  lazyLayers(): Promise<readonly Digest[]>;
  /** Opens one for the time of `use`; undefined when it is gone or needs to be whole. */
  withLazy<T>(layer: Digest, use: (evictable: Evictable) => Promise<T> | T): Promise<T | undefined>;
}

export interface RoomWish {
  /** Bytes on disk that may stay. */
  readonly bytes: number;
  /** Seconds: spans that were used more recently stay. */
  readonly recentSeconds: number;
  /** Stays as well. */
  readonly isProtected: (layer: Digest, span: number) => boolean;
  readonly signal?: AbortSignal | undefined;
}

export interface RoomMade {
  /** On disk, measured at the end. */
  readonly usedBytes: number;
  readonly removed: readonly Digest[];
  readonly evictedSpans: number;
  /** Of disk. */
  readonly evictedBytes: number;
}

/** The neighbours of a hole keep the blocks that they share with it, so that less is freed than was evicted. */
const maxRounds = 16;
/** Spans that are claimed at once, while which nobody can decode them. */
const batch = 64;

/** Errors: those of the stock; the signal's reason. */
export async function makeRoom(stock: CacheStock, wish: RoomWish): Promise<RoomMade> {
  const { bytes, signal } = wish;
  let used = await stock.usedBytes();
  if (used <= bytes) return { usedBytes: used, removed: [], evictedSpans: 0, evictedBytes: 0 };
  const before = used;
  const { removed } = await stock.removeWhole((freed) => signal?.aborted !== true && before - freed > bytes);
  used = await stock.usedBytes();
  let evictedSpans = 0;
  let evictedBytes = 0;
  const stuck = new ProtectedSpans();
  for (let round = 0; round < maxRounds && used > bytes; round += 1) {
    signal?.throwIfAborted();
    const found = await evictOldest(stock, wish, stuck, used - bytes);
    if (found === undefined) break;
    evictedSpans += found.spans;
    evictedBytes += found.bytes;
    used = await stock.usedBytes();
  }
  return { usedBytes: used, removed, evictedSpans, evictedBytes };
}

/** `stuck` gets those that did not go. Undefined when there was none to try. */
async function evictOldest(
  stock: CacheStock,
  wish: RoomWish,
  stuck: ProtectedSpans,
  bytes: number,
): Promise<{ readonly spans: number; readonly bytes: number } | undefined> {
  const seen: LazyLayer[] = [];
  let now = 0;
  for (const layer of await stock.lazyLayers()) {
    await stock.withLazy(layer, (evictable) => {
      now = evictable.coarseNow();
      if (!evictable.complete) seen.push(lookAt(evictable, [wish.isProtected, stuck.has]));
    });
  }
  // A span of this very second has its stamp.
  const usedBefore = Math.max(0, now - wish.recentSeconds);
  let freed = 0;
  let spans = 0;
  const oldest = oldestSpans(seen, { bytes, usedBefore });
  for (const [layer, chosen] of oldest) {
    await stock.withLazy(layer, async (evictable) => {
      for (let at = 0; at < chosen.length; at += batch) {
        wish.signal?.throwIfAborted();
        const done = await evictable.evict(chosen.slice(at, at + batch));
        spans += done.evicted;
        freed += done.bytes;
      }
      stuck.add(layer, chosen.filter(evictable.isPresent));
    });
  }
  return oldest.size === 0 ? undefined : { spans, bytes: freed };
}

function lookAt(evictable: Evictable, stays: readonly RoomWish['isProtected'][]): LazyLayer {
  const { layer, spanStarts } = evictable;
  const lastUsed = evictable.lastUsed();
  for (let span = 0; span < lastUsed.length; span += 1) {
    if (!evictable.isPresent(span) || stays.some((isKept) => isKept(layer, span))) lastUsed[span] = keepSpan;
  }
  return { layer, spanStarts, lastUsed };
}
