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

describe.skipIf(!canMount)('while containers read', () => {
  let world: SnapshotterWorld;
  let image: PushedImage;
  let slow: () => void;
  const warm = files('warm', 24, 300_000);
  const cold = Array.from({ length: 2 }, (_, reader) => files(`cold-${reader}`, 6 * kills, 200_000));

  beforeAll(async () => {
    world = await SnapshotterWorld.start({ keeper: true });
    image = await world.image('app', [warm.members, ...cold.map(({ members }) => members)]);
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
      const readers = [
        ...Array.from({ length: 6 }, () => new ChecksumReader({ root, files: warm.sums })),
        ...cold.map(({ sums }) => new ChecksumReader({ root, files: sums, once: true })),
      ];
      const reports: ReaderReport[] = [];
      try {
        for (let round = 0; round < kills; round += 1) {
          await delay(Math.random() * 400);
          await daemon.stop(signal);
          await delay(Math.random() * 100);
          await daemon.start();
        }
      } finally {
        reports.push(...(await Promise.all(readers.map((reader) => reader.end()))));
      }
      const { failed, wrong, longest, reads, bytes } = summed(reports);
      console.info(
        `${kills} × ${signal}: ${reads} files, ${bytes} bytes read; longest pause ${Math.round(longest * 1000)} ms`,
      );
      expect({ failed, wrong }).toEqual({ failed: [], wrong: [] });
      expect(reports.map((report) => report.reads > 0)).not.toContain(false);
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
