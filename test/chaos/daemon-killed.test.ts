// Containers read while the daemon below them is killed, stopped and started: nobody notices.
import { createHash, randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ChecksumReader, summed } from '../support/checksum-readers.ts';
import type { ReaderReport } from '../support/checksum-readers.ts';
import type { PushedImage } from '../support/container-image.ts';
import { rounds } from '../support/fixtures.ts';
import { canMount } from '../support/peel-node.ts';
import { SnapshotterWorld } from '../support/snapshotter-world.ts';

const kills = rounds(100, 10, 0.1);
/** ms that the registry takes for an answer. */
const registryMs = 150;
const kinds = ['that are cached', 'that are not'];

describe.skipIf(!canMount)('while containers read', () => {
  let world: SnapshotterWorld;
  let image: PushedImage;
  let slow: () => void;
  const warm = files('warm', 24, 300_000);
  const pair = (name: string) =>
    [files(`${name}-0`, 6 * kills, 200_000), files(`${name}-1`, 6 * kills, 200_000)] as const;
  const cold = { SIGKILL: pair('kill'), SIGTERM: pair('term') };

  beforeAll(async () => {
    world = await SnapshotterWorld.start({ keeper: true });
    image = await world.image('app', [
      warm.members,
      ...[...cold.SIGKILL, ...cold.SIGTERM].map(({ members }) => members),
    ]);
    await world.pull(image.reference);
    slow = world.registry.front.interfere(
      ({ url }) => url?.includes('/blobs/') === true,
      (_request, _response, forward) => void setTimeout(forward, registryMs),
    );
  }, 120_000);
  beforeEach(() => world.explainFailure());
  afterAll(async () => {
    slow();
    expect(await world.close()).toEqual([]);
  });

  it.each(['SIGKILL', 'SIGTERM'] as const)(
    'a daemon that gets %s is replaced and no read fails',
    async (signal) => {
      const { containerd, daemon } = world;
      await world.reconnected();
      const container = await containerd.container(image.reference, ['sleep', '6000']);
      const root = `/proc/${await container.pid()}/root`;
      await new ChecksumReader({ root, files: warm.sums, once: true }).done();
      const [own, other] = cold[signal];
      const cached = Array.from({ length: 6 }, () => new ChecksumReader({ root, files: warm.sums }));
      const missing = [own, other].map(({ sums }) => new ChecksumReader({ root, files: sums, once: true }));
      const ended = async (readers: readonly ChecksumReader[]) =>
        summed(await Promise.all(readers.map((reader) => reader.end())));
      let reports: ReaderReport[] = [];
      try {
        for (let round = 0; round < kills; round += 1) {
          await delay(Math.random() * 400);
          await daemon.stop(signal);
          await delay(Math.random() * 100);
          await daemon.start();
        }
      } finally {
        reports = [await ended(cached), await ended(missing)];
      }
      for (const [i, { reads, longest }] of reports.entries())
        console.info(
          `${kills} × ${signal}: ${reads} files ${kinds[i]}, longest pause ${Math.round(longest * 1000)} ms`,
        );
      expect(reports.map(({ failed, wrong }) => ({ failed, wrong }))).toEqual(
        reports.map(() => ({ failed: [], wrong: [] })),
      );
      expect(reports.map(({ reads }) => reads > kills / 4)).not.toContain(false);
      await container.remove();
    },
    600_000,
  );
});

function files(name: string, count: number, size: number) {
  const made = Array.from({ length: count }, (_, i) => {
    const data = randomBytes(size);
    const path = `${name}/${i}`;
    return { member: { name: path, data }, sum: [path, createHash('sha256').update(data).digest('hex')] as const };
  });
  return { members: made.map(({ member }) => member), sums: made.map(({ sum }) => sum) };
}
