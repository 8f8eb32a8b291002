// `peel why` of starts that really happened: in a container, and on a mount.
import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import type { StartReport } from '../../src/image/start-report.ts';
import type { PushedImage } from '../support/container-image.ts';
import { metricValue } from '../support/daemon-metrics.ts';
import { forBlob } from '../support/faults.ts';
import { canMount, PeelNode } from '../support/peel-node.ts';
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
    // Each of its mounts is a process of its own: what another start in the same process read first is not told of again.
    const node = new PeelNode();
    onTestFinished(() => node.close());
    const first = await node.mount(image.reference, 'auto', '--no-read-ahead');
    const near = members.slice(0, 2);
    for (const { name, data } of near) expect(await readFile(path.join(first, name))).toEqual(data);
    await node.umount(first);
    const cold = await node.json<StartReport>(['why', first]);
    expect(cold.dir).toBe(first);
    expect(cold.reads[0]?.path).toBe('/near/first');
    for (const read of cold.reads) expect(read.path).toMatch(/^\/near\/(first|second)$/);
    expectAddsUp(cold);

    const second = await node.mount(image.reference, 'auto', '--no-read-ahead');
    for (const { name, data } of near) expect(await readFile(path.join(second, name))).toEqual(data);
    await node.umount(second);
    const warm = await node.json<StartReport>(['why', second]);
    expectAddsUp(warm);
    expect(warm.totals).toMatchObject({ stalls: 0, waitedMs: 0, cachedBytes: warm.totals.neededBytes });
    expect(warm.totals.neededBytes).toBeGreaterThan(1200 * kib);
    expect(await node.ok(['why', second])).toContain('\nno read had to wait.\n');
  });
});
