// Containers read while the daemon, the keeper or containerd is killed, stopped and started: nobody notices.
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { StatusReport } from '../../src/daemon/status-report.ts';
import { ChecksumReader } from '../support/checksum-readers.ts';
import { rounds } from '../support/fixtures.ts';
import { keeperBecomes } from '../support/keeper-becomes.ts';
import { canMount } from '../support/peel-node.ts';
import { ReadContainer } from '../support/read-container.ts';

const times = {
  'SIGKILL of the daemon': rounds(100, 3, 0.03),
  'SIGTERM of the daemon': rounds(100, 1, 0.01),
  'a new program of the keeper': rounds(100, 2, 0.02),
  'SIGTERM of the keeper, then of the daemon': rounds(100, 1, 0.01),
  'SIGKILL of containerd': rounds(100, 1, 0.01),
};
const longMs = 1_800_000;

describe.skipIf(!canMount)('while containers read layers of the kernel transport', () => {
  let read: ReadContainer;

  beforeAll(async () => {
    read = await ReadContainer.start({ transport: 'kernel', keeper: 'alone', rounds: times });
  }, 300_000);
  beforeEach(() => read.world.explainFailure());
  afterAll(async () => {
    expect(await read.close()).toEqual([]);
  });

  async function startAgain(signal: NodeJS.Signals): Promise<void> {
    const { daemon } = read.world;
    await daemon.stop(signal);
    await delay(Math.random() * 100);
    await daemon.start();
  }

  it.each(['SIGKILL', 'SIGTERM'] as const)(
    'a daemon that gets %s is replaced and no read fails',
    async (signal) => {
      await read.unnoticed(`${signal} of the daemon`, async () => await startAgain(signal));
    },
    longMs,
  );

  it(
    'the keeper becomes a new program and no read fails',
    async () => {
      const socket = read.world.daemon.keeperSocket;
      await read.unnoticed('a new program of the keeper', async (round) => {
        const { pid, executions, fds } = await keeperBecomes(socket);
        process.kill(pid, 'SIGUSR2');
        // Also while a daemon takes back what it keeps.
        if (round % 2 === 1) await startAgain('SIGKILL');
        const after = await keeperBecomes(socket, (status) => status.executions === executions + 1);
        expect(after).toMatchObject({ pid, fds });
      });
    },
    longMs,
  );

  it(
    'the keeper ends and comes back, then the daemon does, and no read fails',
    async () => {
      const { daemon } = read.world;
      await read.unnoticed('SIGTERM of the keeper, then of the daemon', async () => {
        const { pid, fds } = await keeperBecomes(daemon.keeperSocket);
        await daemon.stopKeeper();
        await daemon.startKeeper();
        const next = await keeperBecomes(daemon.keeperSocket, (status) => status.fds === fds);
        expect(next.pid).not.toBe(pid);
        await startAgain('SIGTERM');
      });
    },
    longMs,
  );

  it(
    'containerd that is killed is started again, and no read fails',
    async () => {
      const { containerd } = read.world;
      await read.unnoticed('SIGKILL of containerd', async () => {
        await containerd.kill();
        await delay(Math.random() * 100);
        await containerd.start();
      });
      await read.world.reconnected();
      expect(await read.container.exec('ls', '/warm/0')).toMatchObject({ code: 0, out: '/warm/0\n' });
      expect(await containerd.run(read.image.reference, ['ls', '/warm/1'])).toMatchObject({ out: '/warm/1\n' });
    },
    longMs,
  );

  it('a layer that cannot be served any more is told, and the others go on', async () => {
    const { daemon } = read.world;
    const broken = read.image.layers.at(-1)?.descriptor.digest ?? '';
    await daemon.stop('SIGKILL');
    await rm(join(daemon.root, 'blobs', ...broken.split(':'), 'index'));
    await daemon.start();
    const reader = new ChecksumReader({ root: read.root, files: read.warm, once: true });
    expect(await reader.done()).toMatchObject({ reads: read.warm.length, failed: [], wrong: [] });
    const { snapshotter } = JSON.parse(await daemon.ok(['status', '--json'])) as StatusReport;
    const lines = snapshotter?.layers ?? [];
    expect(lines.filter(({ lastError }) => lastError !== undefined)).toMatchObject([
      { layer: broken, lastError: expect.stringContaining('its index is gone from the cache') },
    ]);
    expect(lines).toHaveLength(read.image.layers.length);
  });
});
