// A start with one of everything, for those that explain starts.
import type { StartTrace, TracedFetch, TracedStall } from '../../src/image/start-trace.ts';
import { parseDigest } from '../../src/oci/digest.ts';

export const tracedLayers = ['a', 'b'].map((hex) => parseDigest(`sha256:${hex.repeat(64)}`));

const source = `registry.example/team/app@sha256:${'a'.repeat(64)}`;

function fetch(change: Partial<TracedFetch>): { readonly fetch: TracedFetch } {
  return { fetch: { fetchClass: 'demand', bytes: 262_144, askedAt: 0, sentAt: 0, retries: 0, source, ...change } };
}

const small: Pick<TracedStall, 'layer' | 'length' | 'spanBytes' | 'follows'> = {
  layer: 0,
  length: 131_072,
  spanBytes: 262_144,
  follows: false,
};

export function startTrace(change: Partial<StartTrace> = {}): StartTrace {
  const layer = { spans: 400, streamBytes: 104_857_600, missingSpans: 390, missingBytes: 40_000_000 };
  return {
    version: 1,
    ms: 60_000,
    over: true,
    layers: tracedLayers.map((digest) => ({ ...layer, digest, touched: [], touchesLeftOut: 0 })),
    stalls: [
      { ...small, offset: 1024, at: 120, ms: 21.2, ...fetch({ askedAt: 120 }) },
      { ...small, offset: 300_000, at: 150, ms: 400, follows: true, ...fetch({ askedAt: 150 }) },
      {
        ...small,
        offset: 9_000_000,
        at: 700,
        ms: 250,
        ...fetch({ askedAt: 500, fetchClass: 'read-ahead', bytes: 4_194_304 }),
      },
      { ...small, layer: 1, offset: 512, at: 1000, ms: 1000, ...fetch({ askedAt: 1000, retries: 2 }) },
      { ...small, layer: 1, offset: 8192, at: 1100, ms: 3000, error: 'ENOSPC' },
    ],
    stallsLeftOut: 0,
    totals: {
      touchedSpans: 60,
      neededBytes: 12_000_000,
      cachedBytes: 2_000_000,
      fetched: {
        demand: { spans: 30, bytes: 7_000_000, usedBytes: 7_000_000 },
        'read-ahead': { spans: 20, bytes: 4_000_000, usedBytes: 3_000_000 },
        profile: { spans: 0, bytes: 0, usedBytes: 0 },
        background: { spans: 20, bytes: 4_000_000, usedBytes: 0 },
      },
      fetchingMs: 1500,
      retries: 2,
      stalls: 5,
      failedReads: 1,
      waitedMs: 3650,
    },
    ...change,
  };
}
