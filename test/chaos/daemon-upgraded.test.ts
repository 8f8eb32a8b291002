// Containers read while the keeper replaces the daemon that is its child, by the same version or by one that comes to nothing: nobody notices.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { KeeperStatus } from '../../src/daemon/keeper-status.ts';
import { isFullScale, rounds } from '../support/fixtures.ts';
import { keeperBecomes } from '../support/keeper-becomes.ts';
import { canMount } from '../support/peel-node.ts';
import { ReadContainer } from '../support/read-container.ts';
import { peelMain } from '../support/run.ts';

const times = {
  'SIGKILL of the daemon': rounds(100, 1, 0.01),
  // Takes as long as the watchdog, which must not be short where processors are busy.
  'SIGSTOP of the daemon': isFullScale() ? 10 : 0,
  'a new program of the keeper': rounds(100, 1, 0.01),
  'SIGKILL of the keeper': rounds(25, 1, 0.01),
  'peel upgrade': rounds(100, 1, 0.01),
  'peel upgrade to a version that is taken back': rounds(100, 3, 0.03),
};
const longMs = 1_800_000;
const transports = ['native', ...(isFullScale() ? (['kernel'] as const) : [])] as const;

describe.skipIf(!canMount).each(transports)('while containers read layers of the %s transport', (transport) => {
  let read: ReadContainer;
  let socket: string;
  let first: KeeperStatus;

  beforeAll(async () => {
    const env = isFullScale() ? { WATCHDOG_USEC: '15000000' } : {};
    read = await ReadContainer.start({ transport, keeper: 'parent', env, rounds: times });
    socket = read.world.daemon.keeperSocket;
    first = await isReady();
  }, 300_000);
  beforeEach(() => read.world.explainFailure());
  afterAll(async () => {
    expect(await read.close()).toEqual([]);
  });

  /** Once a daemon is, which is another process than `unlike`. */
  async function isReady(unlike = 0): Promise<KeeperStatus> {
    return await keeperBecomes(socket, ({ daemon }) => daemon?.phase === 'ready' && daemon.pid !== unlike);
  }

  /** The daemon ends; what it was. Not as often in a row that its parent would wait before it starts the next one. */
  async function kill(round: number): Promise<number> {
    if (round > 1) await delay(2_000);
    const pid = (await isReady()).daemon?.pid ?? 0;
    process.kill(pid, 'SIGKILL');
    return pid;
  }

  it(
    'a daemon that is killed is started again and no read fails',
    async () => {
      await read.unnoticed('SIGKILL of the daemon', async (round) => {
        expect((await isReady(await kill(round))).fds).toBe(first.fds);
      });
    },
    longMs,
  );

  it.runIf(isFullScale())(
    'a daemon that does nothing any more is replaced and no read fails',
    async () => {
      await read.unnoticed('SIGSTOP of the daemon', async () => {
        const { daemon } = await isReady();
        process.kill(daemon?.pid ?? 0, 'SIGSTOP');
        expect((await isReady(daemon?.pid)).daemon?.lastEnd).toBe('killed by signal 9');
      });
    },
    longMs,
  );

  it(
    'the keeper becomes a new program and no read fails',
    async () => {
      await read.unnoticed('a new program of the keeper', async (round) => {
        const { pid, executions, daemon } = await isReady();
        process.kill(pid, 'SIGUSR2');
        const killed = round % 2 === 1 ? await kill(round) : 0;
        await keeperBecomes(socket, (status) => status.executions === executions + 1);
        const after = await isReady(killed);
        expect([after.pid, after.fds]).toEqual([first.pid, first.fds]);
        if (killed === 0) expect(after.daemon).toEqual(daemon);
      });
    },
    longMs,
  );

  it(
    'an upgrade replaces the daemon and no read fails',
    async () => {
      await read.unnoticed('peel upgrade', async () => {
        const { daemon } = await isReady();
        expect(await read.world.daemon.ok(['upgrade'])).toMatch(/^process \d+ serves after /);
        const after = await isReady(daemon?.pid);
        expect([after.pid, after.fds]).toEqual([first.pid, first.fds]);
      });
    },
    longMs,
  );

  it(
    'a version that does not become ready is taken back and no read fails',
    async () => {
      const { daemon, registry } = read.world;
      const adoptions = () => daemon.log.split('layers are served again').length;
      // Serves what it has taken over, and only then cannot start.
      const config = join(daemon.dir, 'broken.toml');
      writeFileSync(
        config,
        `${readFileSync(daemon.configFile, 'utf8')}[metrics]\naddress = "${registry.front.host}"\n`,
      );
      const versions: readonly (readonly [timeout: string, command: readonly string[], adopts: number])[] = [
        ['30s', ['/bin/sh', '-c', 'exit 4'], 0],
        ['500ms', ['/bin/sh', '-c', 'exec sleep 600'], 0],
        ['30s', [process.execPath, peelMain, 'daemon', '--config', config], 1],
      ];
      await read.unnoticed('peel upgrade to a version that is taken back', async (round) => {
        const [timeout, command, adopts] = versions[round % versions.length] ?? ['', [], 0];
        const before = adoptions();
        const { code, err } = await daemon.peel(['upgrade', '--timeout', timeout, '--', ...command]);
        expect([code, err]).toEqual([1, expect.stringMatching(/the old version runs again/)]);
        const after = await isReady();
        expect([after.fds, after.daemon?.command]).toEqual([first.fds, first.daemon?.command]);
        expect(adoptions()).toBe(before + adopts + 1);
      });
    },
    longMs,
  );

  it(
    'the keeper is killed, another one takes over from the daemon that was left, and no read fails',
    async () => {
      await read.unnoticed('SIGKILL of the keeper', async () => {
        const { daemon } = await isReady();
        const left = daemon?.pid ?? 0;
        await read.world.daemon.stop('SIGKILL');
        await read.world.daemon.start('keeper');
        await keeperBecomes(socket, ({ fds }) => fds === first.fds);
        process.kill(left, 'SIGTERM');
        expect((await isReady(left)).fds).toBe(first.fds);
      });
    },
    longMs,
  );
});
