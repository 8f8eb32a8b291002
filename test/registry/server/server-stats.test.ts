import { expect, it } from 'vitest';
import type { Digest } from '../../../src/oci/digest.ts';
import { ServerStats } from '../../../src/registry/server/server-stats.ts';

it('forgets the blobs that were asked for first when there are too many', () => {
  const stats = new ServerStats();
  const ask = (i: number) =>
    stats.begin({
      method: 'GET',
      url: '/',
      kind: 'blob',
      digest: `sha256:${i.toString(16).padStart(64, '0')}` as Digest,
      range: undefined,
    });
  for (let i = 0; i <= 20_000; i += 1) ask(i);
  expect([stats.byDigest.size, stats.requests]).toEqual([20_000, 20_001]);
});
