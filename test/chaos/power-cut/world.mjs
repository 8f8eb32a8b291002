// What the recorded process and the test that looks at what is left of it have in common.
import { createHash } from 'node:crypto';
import { join } from 'node:path';

export const spans = 24;
export const spanSize = 12_000;

/** The layer stream of the cache `name`. */
export function bytesOf(name) {
  const blocks = Array.from({ length: Math.ceil((spans * spanSize) / 32) }, (_, i) =>
    createHash('sha256').update(`${name} ${i}`).digest(),
  );
  return Buffer.concat(blocks).subarray(0, spans * spanSize);
}

export function cacheOptions(root, runDir, name) {
  return {
    dir: join(root, 'blobs', name),
    livePath: join(runDir, 'live', name),
    streamSize: spans * spanSize,
    spanStarts: Float64Array.from({ length: spans + 1 }, (_, i) => i * spanSize),
    fingerprint: Buffer.alloc(32, 3),
  };
}

/** mulberry32. */
export function random(seed) {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}
