// Profiles from one node to the next, over a real registry, containerd and runc.
import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import type { IndexReport } from '../../src/image/index-report.ts';
import type { ProfileReport } from '../../src/image/profile-service.ts';
import type { PushedImage } from '../support/container-image.ts';
import { fetchedBytes } from '../support/daemon-metrics.ts';
import { sha256 } from '../support/image-lab.ts';
import { canMount, PeelNode } from '../support/peel-node.ts';
import { SnapshotterWorld } from '../support/snapshotter-world.ts';

const kib = 1024;
const wait = { timeout: 30_000, interval: 100 };
/** What the container does, on whichever node. */
const start = ['sh', '-c', 'head -c 300000 /data | sha256sum && sha256sum /late'];

interface Recorded extends PushedImage {
  /** Of the container. */
  readonly answer: string;
}

describe.skipIf(!canMount)('a profile', () => {
  const recorders: PeelNode[] = [];
  let world: SnapshotterWorld;

  beforeAll(async () => {
    // What read-ahead brings would hide what the profile does.
    world = await SnapshotterWorld.start({ config: () => ['[read_ahead]', 'enabled = false'] });
  });
  beforeEach(() => {
    world.explainFailure();
    world.registry.front.forget();
  });
  afterAll(async () => {
    for (const recorder of recorders) await recorder.close();
    expect(await world.close()).toEqual([]);
  });

  /** An image that a node has recorded a start of and pushed its profile for. */
  async function recorded(name: string, format: 'peel' | 'soci'): Promise<Recorded> {
    // No image has a layer of another one.
    const recorder = new PeelNode();
    recorders.push(recorder);
    const [data, late] = [randomBytes(3072 * kib), randomBytes(200 * kib)];
    const answer = `${hex(data.subarray(0, 300_000))}  -\n${hex(late)}  /late\n`;
    const image = await world.image(
      name,
      [
        [
          { name: 'data', data },
          { name: 'late', data: late },
        ],
      ],
      { indexed: false },
    );
    const sizes = [format === 'peel' ? '--peel-span-size' : '--span-size', '64KiB', '--min-layer-size', '0'];
    await recorder.ok(['index', 'create', image.reference, '--format', format, '--push', ...sizes]);
    expect(await recorder.ok(['record', image.reference, '--', ...start])).toBe(answer);
    const reports = await recorder.json<ProfileReport[]>(['profile', 'show', image.reference]);
    expect(reports.flatMap(({ layers }) => layers.map(({ spans }) => spans.length > 0))).toContain(true);
    await recorder.ok(['profile', 'push', image.reference, '--format', format]);
    return { ...image, answer };
  }

  async function expectForeseen(image: Recorded): Promise<void> {
    const { daemon, registry, containerd } = world;
    const top = image.layers[1]?.descriptor.digest ?? '';
    registry.front.forget();
    const before = { demand: await fetchedBytes(daemon, 'demand'), profile: await fetchedBytes(daemon, 'profile') };
    await world.pull(image.reference);
    await expect.poll(() => registry.front.bytes(top), wait).toBeGreaterThan(500_000);
    // Nothing has been read, and not all of it comes.
    await expect
      .poll(async () => (await fetchedBytes(daemon, 'profile')) - before.profile, wait)
      .toBeGreaterThan(400 * kib);
    expect(registry.front.bytes(top)).toBeLessThan(2000 * kib);
    const { out } = await containerd.run(image.reference, start);
    expect(out).toBe(image.answer);
    expect((await fetchedBytes(daemon, 'demand')) - before.demand).toBeLessThan(300 * kib);
  }

  it('that a start on another node made is asked for before anybody reads', async () => {
    await expectForeseen(await recorded('peel', 'peel'));
  });

  it('in the form of SOCI is, too', async () => {
    const image = await recorded('soci', 'soci');
    await expectForeseen(image);
  });

  it('that refers to another index is ignored with one message', async () => {
    const image = await recorded('other', 'peel');
    const indexer = new PeelNode();
    onTestFinished(() => indexer.close());
    const sizes = ['--peel-span-size', '128KiB', '--min-layer-size', '0'];
    const create = ['index', 'create', image.reference, '--format', 'peel', '--push', ...sizes];
    const [other] = await indexer.json<IndexReport[]>(create);
    // Which of two a node takes is chance where neither says when it was made.
    const listed = (await indexer.ok(['index', 'ls', image.reference])).match(/sha256:[0-9a-f]{64}(?= +peel)/g) ?? [];
    for (const digest of listed.filter((each) => each !== other?.indexes.peel)) {
      const url = `http://${image.reference.replace(/\/(.*):.*/, '/v2/$1')}/manifests/${digest}`;
      expect((await fetch(url, { method: 'DELETE' })).status).toBe(202);
    }
    expect(listed).toHaveLength(2);
    const before = await fetchedBytes(world.daemon, 'profile');
    await world.pull(image.reference);
    const { out } = await world.containerd.run(image.reference, start);
    expect(out).toBe(image.answer);
    const messages = () =>
      world.daemon.log.split('\n').filter((line) => /the profile sha256:\w+ .* is ignored: it counts/.test(line));
    // The container does not wait for its profile.
    await expect.poll(messages, { timeout: 10_000 }).toHaveLength(1);
    await delay(300);
    expect(messages()).toHaveLength(1);
    expect(await fetchedBytes(world.daemon, 'profile')).toBe(before);
  });
});

const hex = (bytes: Buffer): string => sha256(bytes).slice('sha256:'.length);
