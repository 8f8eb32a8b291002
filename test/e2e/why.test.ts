// `peel why` of starts that really happened: in a container, and on a mount.
import { randomBytes } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import type { StartReport } from '../../src/image/start-report.ts';
import type { PushedImage } from '../support/container-image.ts';
import { metricValue } from '../support/daemon-metrics.ts';
import { forBlob } from '../support/faults.ts';
import { canMount } from '../support/peel-node.ts';
import { SnapshotterWorld } from '../support/snapshotter-world.ts';

const kib = 1024;
const wait = { timeout: 30_000, interval: 200 };
const slowMs = 60;

describe.skipIf(!canMount)('peel why', () => {
  const members = ['near/first', 'near/second', 'far'].map((name) => ({ name, data: randomBytes(700 * kib) }));
  let world: SnapshotterWorld;
  let image: PushedImage;

  beforeAll(async () => {
    world = await SnapshotterWorld.start();
    image = await world.image('why', [members]);
    const top = image.layers[1]?.descriptor.digest ?? '';
    // A registry that is far away.
    world.registry.front.interfere(forBlob(top), (_request, _response, forward) => void setTimeout(forward, slowMs));
  });
  beforeEach(() => world.explainFailure());
  afterAll(async () => expect(await world.close()).toEqual([]));

  const why = async (what: string): Promise<StartReport> =>
    JSON.parse(await world.daemon.ok(['why', what, '--json'])) as StartReport;

  /** Whatever was read. */
  function expectAddsUp({ totals, wastedBytes, reads, avoidable }: StartReport): void {
    const fetched = Object.values(totals.fetched);
    const bytes = fetched.reduce((sum, each) => sum + each.bytes, 0);
    const used = fetched.reduce((sum, each) => sum + each.usedBytes, 0);
    expect(totals.neededBytes).toBeLessThanOrEqual(bytes + totals.cachedBytes);
    expect(totals.neededBytes).toBe(used + totals.cachedBytes);
    expect(wastedBytes).toBe(bytes - used);
    expect(totals.stalls).toBe(reads.length);
    expect(avoidable.reduce((sum, each) => sum + each.reads, 0)).toBe(reads.length);
    expect(totals.waitedMs).toBeLessThanOrEqual(reads.reduce((sum, { ms }) => sum + ms, 0) + 1);
  }

  it('explains the start of a container, while it goes on', async () => {
    const stallsBefore = await metricValue(world.daemon, 'peel_read_stall_duration_seconds_count{outcome="read"}');
    await world.pull(image.reference);
    const container = await world.containerd.container(image.reference, ['sh', '-c', 'sha256sum /far && sleep 600']);
    onTestFinished(() => container.remove());
    const paths = async () => (await why(image.reference)).reads.map((read) => read.path);
    await expect.poll(paths, wait).toContain('/far');
    const report = await why(image.reference);
    expect(report).toMatchObject({ reference: image.reference, image: image.manifest.descriptor.digest, over: false });
    expect(report.dir).toBeUndefined();
    expectAddsUp(report);
    const far = report.reads.filter((read) => read.path === '/far');
    expect(far[0]?.ms).toBeGreaterThan(slowMs * 0.9);
    expect(far[0]?.fetch?.source).toContain(world.registry.front.host);
    expect(report.reads.map((read) => read.path)).not.toContain('/near/first');
    expect(report.totals.failedReads).toBe(0);
    const stalls = await metricValue(world.daemon, 'peel_read_stall_duration_seconds_count{outcome="read"}');
    expect(stalls - stallsBefore).toBeGreaterThanOrEqual(report.totals.stalls);

    const text = await world.daemon.ok(['why', image.reference]);
    expect(text).toMatch(/ in containerd, since .*\nwatched for .*, and it goes on\n/);
    expect(text).toMatch(/ \|.*#.*\| .* demand .* \/far\n/);
    expect(text).toContain(`from:     ${world.registry.front.host}/why\n`);
  });

  it('explains a mount, and says of the next one that nothing waited', async () => {
    const { daemon } = world;
    const dirs = ['first', 'second'].map((name) => path.join(daemon.dir, name));
    for (const dir of dirs) await mkdir(dir);
    const [first = '', second = ''] = dirs;
    await daemon.ok(['mount', image.reference, first]);
    await readFile(path.join(first, 'near/first'));
    await readFile(path.join(first, 'near/second'));
    await daemon.ok(['umount', first]);
    const report = await why(first);
    expect(report.dir).toBe(first);
    expect(report.reads[0]?.path).toBe('/near/first');
    for (const read of report.reads) expect(read.path).toMatch(/^\/near\/(first|second)$/);
    expectAddsUp(report);

    await daemon.ok(['mount', image.reference, second]);
    for (const { name, data } of members) expect(await readFile(path.join(second, name))).toEqual(data);
    await daemon.ok(['umount', second]);
    const warm = await why(second);
    expectAddsUp(warm);
    expect(warm.totals).toMatchObject({ stalls: 0, waitedMs: 0 });
    expect(await daemon.ok(['why', second])).toMatch(/\n(no read had to wait|nothing has been read)\.\n/);
  });
});
