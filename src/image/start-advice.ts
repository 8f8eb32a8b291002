// What would have spared a read its wait.
import type { StartTrace, TracedStall } from './start-trace.ts';

/**
 * - `registry`: a nearer, faster or steadier one.
 * - `read-ahead`: of what follows what was read.
 * - `finer-index`: with smaller spans.
 * - `fill`: of the whole image in the background, from its first second.
 * - `profile`: of an earlier start.
 */
export const avoidances = ['registry', 'read-ahead', 'finer-index', 'fill', 'profile'] as const;
export type Avoidance = (typeof avoidances)[number];

/** Spans of which a small read needs little: from this size on, and so many times what was read. */
const largeSpan = 1 << 20;
const muchLarger = 8;
/** Times the quickest wait, about a round trip: above it most of a wait is the transfer. */
const longTransfer = 2;
/** Errors that are those of the registry; others are of this machine. */
const remoteErrors: readonly string[] = ['EIO', 'ETIMEDOUT'];

export interface AdviceContext {
  /** ms of the shortest wait for something that nobody had asked for before. */
  readonly quickestMs: number;
  /** Bytes per ms that came while anything was under way. */
  readonly rate: number;
  /** Bytes that were not in the cache at the beginning. */
  readonly missingBytes: number;
}

export function adviceContext({ stalls, layers, totals }: StartTrace): AdviceContext {
  const demanded = stalls.filter(({ fetch, error }) => fetch?.fetchClass === 'demand' && error === undefined);
  const bytes = Object.values(totals.fetched).reduce((sum, total) => sum + total.bytes, 0);
  return {
    quickestMs: Math.min(...demanded.map(({ ms }) => ms)),
    rate: totals.fetchingMs === 0 ? 0 : bytes / totals.fetchingMs,
    missingBytes: layers.reduce((sum, layer) => sum + layer.missingBytes, 0),
  };
}

/** Undefined where none of them would have helped, or that cannot be said. */
export function avoidanceOf(
  stall: TracedStall,
  { quickestMs, rate, missingBytes }: AdviceContext,
): Avoidance | undefined {
  const { fetch, error, at, ms, length, spanBytes, follows } = stall;
  if (error !== undefined) return remoteErrors.includes(error) ? 'registry' : undefined;
  // Another process fetched it, for reasons of its own.
  if (fetch === undefined) return undefined;
  if (fetch.retries > 0) return 'registry';
  // It was foreseen, and the link did not bring it in time.
  if (fetch.fetchClass !== 'demand') return 'registry';
  if (follows) return 'read-ahead';
  const isLarge = spanBytes >= largeSpan && spanBytes >= muchLarger * length;
  if (isLarge && ms >= longTransfer * quickestMs) return 'finer-index';
  // Everything would have been here by then, had the link never been idle.
  if (missingBytes <= rate * at) return 'fill';
  return 'profile';
}
