// Tokens that expire while nobody gives new ones, and a wall clock that jumps, under readers that check every byte.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { ChaosWorld } from '../support/chaos-world.ts';
import { expiringTokens } from '../support/expiring-tokens.ts';
import type { ExpiringTokens } from '../support/expiring-tokens.ts';
import { rounds } from '../support/fixtures.ts';
import { canMount } from '../support/peel-node.ts';
import { tempDir } from '../support/tmp.ts';

const jumpingClock = new URL('../support/jumping-clock.mjs', import.meta.url).href;
const dayMs = 86_400_000;

async function waitsForToken(world: ChaosWorld, tokens: ExpiringTokens): Promise<void> {
  const mount = await world.mount();
  await mount.check(['f0']);
  tokens.isUp = false;
  await delay(1_100);
  const readers = await mount.readers({ readers: 2 });
  await delay(rounds(10_000, 1_500, 0));
  expect((await world.registries()).map(({ why }) => why)).toEqual([expect.stringContaining('token server')]);
  tokens.isUp = true;
  await mount.check();
  expect(await readers.stop()).toMatchObject({ wrong: 0, errors: {} });
}

/** At full scale it takes minutes. */
const timeoutMs = 600_000;

describe.skipIf(!canMount)('a mount', () => {
  it(
    'waits for a token to be had, and does not notice that the wall clock jumps',
    async () => {
      const clock = join(tempDir(), 'offset');
      const env = { NODE_OPTIONS: `--import ${jumpingClock}`, PEEL_TEST_CLOCK: clock };
      const world = await ChaosWorld.start({ env });
      const tokens = expiringTokens(world.front, 1_000);
      await waitsForToken(world, tokens);

      const mount = await world.mount();
      const readers = await mount.readers();
      const began = performance.now();
      const before = tokens.given();
      for (const days of [1, -1, 400, -400, 0]) {
        writeFileSync(clock, String(days * dayMs));
        await delay(250);
        await mount.check([`f${Math.abs(days) % 30}`]);
      }
      expect(await readers.stop()).toMatchObject({ wrong: 0, errors: {} });
      const seconds = (performance.now() - began) / 1_000;
      expect(tokens.given() - before).toBeLessThan(4 * seconds + 10);
      await mount.check();
      expect((await world.registries()).map(({ state }) => state)).toEqual(['answering']);

      writeFileSync(clock, String(400 * dayMs));
      await delay(60);
      expect(await world.daemon.end()).toBe(0);
      const { time } = JSON.parse(world.logged('daemon stops')[0] ?? '{}') as { time: string };
      expect(Date.parse(time)).toBeGreaterThan(Date.now() + 399 * dayMs);
    },
    timeoutMs,
  );
});
