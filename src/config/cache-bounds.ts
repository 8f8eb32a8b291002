import { parseCacheLimit } from './limits.ts';
import type { DaemonConfig } from './schema.ts';

export type CacheSettings = DaemonConfig['cache'];

/** Bytes on disk. */
export interface CacheBounds {
  readonly limit: number;
  /** From here on something has to go … */
  readonly high: number;
  /** … until this is left; filling stops here. */
  readonly low: number;
}

export interface CacheSpace {
  /** Of the file system. */
  readonly totalBytes: number;
  /** What the cache has and what is free, together: it never gets more, whatever the configuration allows. */
  readonly reachableBytes: number;
}

/** What the settings, which are checked, mean on this disk. */
export function cacheBounds({ limit: text, high, low }: CacheSettings, space: CacheSpace): CacheBounds {
  const limit = Math.min(configuredLimit(text, space.totalBytes), space.reachableBytes);
  return { limit, high: Math.floor((limit * high) / 100), low: Math.floor((limit * low) / 100) };
}

/** Bytes. */
export function configuredLimit(text: string, totalBytes: number): number {
  const limit = parseCacheLimit(text);
  if (limit === undefined) throw new TypeError(`not the limit of a cache: ${text}`);
  return 'bytes' in limit ? limit.bytes : Math.floor((totalBytes * limit.percent) / 100);
}
