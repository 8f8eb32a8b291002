import { expect, it } from 'vitest';
import { DaemonMetrics } from '../../src/observe/metrics.ts';

it('looks once at every scrape', async () => {
  const metrics = await DaemonMetrics.create();
  let looks = 0;
  metrics.observe(() => {
    looks += 1;
    return {
      snapshots: { committed: 3 },
      layers: { lazy: 2 },
      presentBytes: 5,
      mounts: { serving: 1, failed: 0 },
      fuseErrors: looks,
    };
  });
  await metrics.text();
  const text = await metrics.text();
  expect(looks).toBe(2);
  expect(text).toContain('peel_snapshots{kind="committed"} 3\n');
  expect(text).toContain('peel_layers{serving="deferred"} 0\n');
  expect(text).toContain('peel_fuse_errors_total 2\n');
});
