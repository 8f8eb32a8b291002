// Containers read while the daemon below them is killed, stopped and started: nobody notices.
import { createHash, randomBytes } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { StatusReport } from '../../src/daemon/status-report.ts';
import { ChecksumReader, summed } from '../support/checksum-readers.ts';
import type { ReaderReport } from '../support/checksum-readers.ts';
import type { PushedImage } from '../support/container-image.ts';
import { rounds } from '../support/fixtures.ts';
import { canMount } from '../support/peel-node.ts';
import { SnapshotterWorld } from '../support/snapshotter-world.ts';

/** Rounds of each kind. */
const kills = { SIGKILL: rounds(100, 10, 0.1), SIGTERM: rounds(100, 3, 0.03) };
/** ms that the registry takes for an answer. */
const registryMs = 150;
const kinds = ['that are cached', 'that are not'];

describe.skipIf(!canMount).each(['kernel', 'native'] as const)(
  'while containers read layers of the %s transport',
  (transport) => {
    let world: SnapshotterWorld;
    let image: PushedImage;
    let slow: () => void;
    const isNative = transport === 'native';
    const signals = isNative ? (['SIGKILL'] as const) : (['SIGKILL', 'SIGTERM'] as const);
    const times = (signal: 'SIGKILL' | 'SIGTERM') => (isNative ? Math.ceil(kills[signal] / 3) : kills[signal]);
    const warm = files('warm', 24, 300_000);
    const pair = (name: string, count: number) =>
      [files(`${name}-0`, 6 * count, 200_000), files(`${name}-1`, 6 * count, 200_000)] as const;
    const cold = { SIGKILL: pair('kill', times('SIGKILL')), SIGTERM: pair('term', isNative ? 1 : times('SIGTERM')) };

    beforeAll(async () => {
      world = await SnapshotterWorld.start({
        keeper: true,
        config: () => ['[snapshotter]', `transport = "${transport}"`],
      });
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

    it.each(signals)(
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
          for (let round = 0; round < times(signal); round += 1) {
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
            `${transport}: ${times(signal)} × ${signal}: ${reads} files ${kinds[i]}, longest pause ${Math.round(longest * 1000)} ms`,
          );
        expect(reports.map(({ failed, wrong }) => ({ failed, wrong }))).toEqual(
          reports.map(() => ({ failed: [], wrong: [] })),
        );
        expect(reports.map(({ reads }) => reads > times(signal) / 4)).not.toContain(false);
        await container.remove();
      },
      600_000,
    );

    // The native transport needs the layer for its names as well.
    it.skipIf(isNative)(
      'a layer that cannot be served any more is told, and the others go on',
      async () => {
        const { containerd, daemon } = world;
        await world.reconnected();
        const container = await containerd.container(image.reference, ['sleep', '6000']);
        const root = `/proc/${await container.pid()}/root`;
        const broken = image.layers.at(-1)?.descriptor.digest ?? '';
        await daemon.stop('SIGKILL');
        await rm(join(daemon.root, 'blobs', ...broken.split(':'), 'index'));
        await daemon.start();
        const reader = new ChecksumReader({ root, files: warm.sums, once: true });
        expect(await reader.done()).toMatchObject({ reads: warm.sums.length, failed: [], wrong: [] });
        const { snapshotter } = JSON.parse(await daemon.ok(['status', '--json'])) as StatusReport;
        const lines = snapshotter?.layers ?? [];
        expect(lines.filter(({ lastError }) => lastError !== undefined)).toMatchObject([
          { layer: broken, lastError: expect.stringContaining('its index is gone from the cache') },
        ]);
        expect(lines).toHaveLength(image.layers.length);
        await container.remove();
      },
      60_000,
    );
  },
);

function files(name: string, count: number, size: number) {
  const made = Array.from({ length: count }, (_, i) => {
    const data = randomBytes(size);
    const path = `${name}/${i}`;
    return { member: { name: path, data }, sum: [path, createHash('sha256').update(data).digest('hex')] as const };
  });
  return { members: made.map(({ member }) => member), sums: made.map(({ sum }) => sum) };
}
