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
      leases: { downloads: { held: 4, waiting: 7 } },
      unpackJobs: { in_progress: 2 },
    };
  });
  await metrics.text();
  const text = await metrics.text();
  expect(looks).toBe(2);
  expect(text).toContain('peel_snapshots{kind="committed"} 3\n');
  expect(text).toContain('peel_layers{serving="deferred"} 0\n');
  expect(text).toContain('peel_unpack_leases{kind="downloads",state="held"} 4\n');
  expect(text).toContain('peel_unpack_leases{kind="downloads",state="waiting"} 7\n');
  expect(text).toContain('peel_unpack_leases{kind="unpacks",state="held"} 0\n');
  expect(text).toContain('peel_unpack_jobs{state="in_progress"} 2\n');
  expect(text).toContain('peel_unpack_jobs{state="failed"} 0\n');
  expect(text).toContain('peel_fuse_errors_total 2\n');
});
