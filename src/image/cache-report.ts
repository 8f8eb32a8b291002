// How full the cache is, and what of it cannot go.
import { cacheBounds } from '../config/cache-bounds.ts';
import type { CacheBounds, CacheSettings } from '../config/cache-bounds.ts';
import { statFs } from '../native/sys.ts';
import type { Digest } from '../oci/digest.ts';
import { cacheEntries } from './cache-service.ts';
import type { CacheDeps, CacheEntry } from './cache-service.ts';
import { cacheUsage } from './cache-usage.ts';
import type { CacheUsage } from './cache-usage.ts';

/** A layer of which nothing can go. */
export interface PinnedLayer {
  readonly digest: Digest;
  /** On disk. */
  readonly bytes: number;
  /** One phrase. */
  readonly why: string;
}

export interface CacheReport {
  /** Bytes on disk. */
  readonly used: CacheUsage;
  readonly bounds: CacheBounds;
  /** Of the file system, for an ordinary user. */
  readonly freeBytes: number;
  readonly pinned: readonly PinnedLayer[];
}

export async function cacheReport(deps: CacheDeps, settings: CacheSettings): Promise<CacheReport> {
  const { root, state, layers } = deps;
  const used = await cacheUsage(root);
  const { totalBytes, freeBytes } = statFs(root);
  const bounds = cacheBounds(settings, { totalBytes, reachableBytes: used.total + freeBytes });
  const direct = new Set(state.slots.list().flatMap((slot) => (slot.direct ? [slot.layer] : [])));
  const pinned: PinnedLayer[] = [];
  for (const entry of await cacheEntries(root, state)) {
    const { digest, diskBytes } = entry;
    const user = userOf(entry, direct.has(digest));
    if (user === undefined) continue;
    // Of one that is not, spans can go, which are fetched again when they are read.
    const isWhole = await layers.withCache(digest, ({ complete }) => complete).catch(() => false);
    if (isWhole === true) pinned.push({ digest, bytes: diskBytes, why: `complete, and ${user}` });
  }
  return { used, bounds, freeBytes, pinned };
}

function userOf({ kept, mountedOn }: CacheEntry, isDirect: boolean): string | undefined {
  if (isDirect) return 'a snapshot of containerd reads its file itself';
  if (mountedOn.length > 0) return `mounted on ${mountedOn.join(', ')}`;
  return kept ? 'snapshots of containerd show it' : undefined;
}
