// A small disk under the state of a node: it becomes full, and has room again, while readers check every byte of a lazy mount.
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { statFs } from '../../src/native/sys.ts';
import { ChaosWorld } from '../support/chaos-world.ts';
import type { ChaosOptions } from '../support/chaos-world.ts';
import { rounds } from '../support/fixtures.ts';
import { mountPoint } from '../support/mounted.ts';
import { canMount } from '../support/peel-node.ts';

const mib = 1 << 20;

/** A world whose state is on a disk of so many bytes; what fills the rest of it is added and removed. */
async function world(size: number, options: ChaosOptions = {}) {
  const disk = mountPoint();
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'peel-test', disk]);
  const root = join(disk, 'root');
  mkdirSync(root, { mode: 0o700 });
  const chaos = await ChaosWorld.start({ ...options, root });
  // The mount's files are closed by then.
  onTestFinished(async () => void (await chaos.daemon.end()));
  const ballast = join(disk, 'ballast');
  return {
    chaos,
    free: () => statFs(disk).freeBytes,
    /** Until so much is left. */
    fillUp: (left = 0) => {
      rmSync(ballast, { force: true });
      const bytes = Buffer.alloc(Math.max(0, statFs(disk).freeBytes - left));
      for (let at = bytes.length; at >= 4096; at >>= 1) {
        try {
          writeFileSync(ballast, bytes.subarray(0, at));
          return;
        } catch {
          // Others took some of it meanwhile.
        }
      }
    },
    makeRoom: () => rmSync(ballast, { force: true }),
  };
}

type World = Awaited<ReturnType<typeof world>>;

async function readsAreServed({ chaos, fillUp, makeRoom, free }: World): Promise<void> {
  const mount = await chaos.mount();
  await mount.check(['f0', 'f1']);
  fillUp();
  const before = await chaos.presentBytes(mount);
  // What the kernel has of it does not come here again.
  const [first, second] = [mount.names.slice(0, 16), mount.names.slice(16)];
  await Promise.all([first, first.toReversed(), first].map((names) => mount.check(names)));
  expect(await chaos.presentBytes(mount)).toBeLessThanOrEqual(before + mib);
  expect(chaos.logged('the disk takes nothing more').length).toBe(1);
  expect(chaos.logged('reads fail')).toEqual([]);
  makeRoom();
  expect(free()).toBeGreaterThan(4 * mib);
  await mount.check(second);
  // Room is still being made, and what went first may have been of these.
  expect(await chaos.presentBytes(mount)).toBeGreaterThan(second.length * 64 * 1024);
}

async function fillsUpAgainAndAgain({ chaos, fillUp, makeRoom }: World): Promise<void> {
  const mount = await chaos.mount({ files: 48 });
  fillUp(mib);
  const readers = await mount.readers();
  for (let i = 0; i < rounds(60, 6, 0); i += 1) {
    fillUp(Math.floor(Math.random() * 200_000));
    await delay(50 + Math.random() * 150);
    if (i % 2 === 1) makeRoom();
    await delay(20);
  }
  expect(await readers.stop()).toMatchObject({ wrong: 0, errors: {} });
  makeRoom();
  await mount.check();
}

async function refusesNewWork({ chaos, fillUp, makeRoom }: World): Promise<void> {
  const mount = await chaos.mount();
  await mount.check(['f0', 'f1', 'f2']);
  const other = await chaos.lab.push('other', mount.image.layers, 'lab/other');
  fillUp();
  const refused = chaos.daemon.mount(other.byDigest);
  await expect(refused).rejects.toMatchObject({ message: expect.stringMatching(/no space|ENOSPC|full/i) });
  expect(await chaos.daemon.end()).toBe(0);
  await chaos.startAgain();
  makeRoom();
  await mount.check(mount.names, await chaos.daemon.mount(other.byDigest));
}

/** At full scale it takes minutes. */
const timeoutMs = 600_000;

describe.skipIf(!canMount)('a disk that is full under a mount', () => {
  it(
    'fails no read, takes more when there is room, and refuses new work with the reason; a daemon starts on it',
    async () => {
      const all = await world(32 * mib);
      await readsAreServed(all);
      await fillsUpAgainAndAgain(all);
      await refusesNewWork(all);
    },
    timeoutMs,
  );
});
