// A registry that goes away, comes back, is slow or lies, while readers check every byte of a lazy mount.
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { ChaosWorld } from '../support/chaos-world.ts';
import { rounds } from '../support/fixtures.ts';
import { canMount } from '../support/peel-node.ts';

/** ms that a registry is away: 30 s at full scale. */
const outageMs = rounds(30_000, 2_500, 0);
const isBlobRange = ({ url, headers }: { url?: string | undefined; headers: { range?: string | undefined } }) =>
  url?.includes('/blobs/') === true && headers.range !== undefined;

async function goesAway(world: ChaosWorld): Promise<void> {
  const mount = await world.mount();
  const [here, ...others] = mount.names;
  await mount.check([here as string]);
  const readers = await mount.readers();
  await delay(30);
  await world.front.down();
  const down = performance.now();
  await delay(outageMs / 2);
  // What is in the cache does not notice.
  const began = performance.now();
  await mount.check([here as string]);
  expect(performance.now() - began).toBeLessThan(1_000);
  expect((await world.registries()).map(({ state }) => state)).not.toContain('answering');
  expect(await world.node.ok(['status'])).toMatch(/^registry \S+ fails for .* in a row, .*connection refused/m);
  await delay(outageMs - (performance.now() - down));
  await world.front.up();
  const up = performance.now();
  await mount.check(others.slice(0, 3));
  // It is asked again after 5 s at the latest; then everybody is woken.
  expect(performance.now() - up).toBeLessThan(6_500);
  const found = await readers.stop();
  expect(found).toMatchObject({ wrong: 0, errors: {} });
  expect(found.longestMs).toBeGreaterThan(outageMs * 0.8);
  expect(found.longestMs).toBeLessThan(outageMs + 7_000);
  expect((await world.registries()).map(({ state }) => state)).toEqual(['answering']);
  expect(world.logged('registry is left alone').length).toBe(1);
  expect(world.logged('registry answers again').length).toBe(1);
}

async function flaps(world: ChaosWorld): Promise<void> {
  const mount = await world.mount();
  const readers = await mount.readers({ readers: 2 });
  for (let i = 0; i < rounds(60, 4, 0); i += 1) {
    await world.front.down();
    await delay(100 + Math.random() * 200);
    await world.front.up();
    await delay(50 + Math.random() * 100);
  }
  await mount.check();
  expect(await readers.stop()).toMatchObject({ wrong: 0, errors: {} });
}

/** Of every third answer only a byte now and then. */
async function drips(world: ChaosWorld): Promise<void> {
  const mount = await world.mount();
  let asked = 0;
  const stop = world.front.interfere(isBlobRange, (_request, response, forward, ask) => {
    asked += 1;
    if (asked % 3 !== 1) return forward();
    void ask().then(({ status, headers, body }) => {
      response.writeHead(status, headers);
      let at = 0;
      const timer = setInterval(() => void response.write(body.subarray(at, (at += 1))), 100);
      response.on('close', () => clearInterval(timer));
    });
  });
  const readers = await mount.readers({ readers: 1 });
  await mount.check(mount.names.slice(0, 2));
  stop();
  expect(await readers.stop()).toMatchObject({ wrong: 0, errors: {} });
  expect(asked).toBeGreaterThan(3);
}

/** One bit of one answer in a hundred. */
async function lies(world: ChaosWorld): Promise<void> {
  const mount = await world.mount();
  let answers = 0;
  let damaged = 0;
  const stop = world.front.interfere(isBlobRange, (_request, response, _forward, ask) => {
    void ask().then(({ status, headers, body }) => {
      answers += 1;
      if (status === 206 && answers % 100 === 10) {
        damaged += 1;
        const at = Math.floor(Math.random() * body.length);
        body.writeUInt8(body.readUInt8(at) ^ (1 << Math.floor(Math.random() * 8)), at);
      }
      response.writeHead(status, headers).end(body);
    });
  });
  const readers = await mount.readers({ readers: 2 });
  await mount.check();
  stop();
  expect(await readers.stop()).toMatchObject({ wrong: 0, errors: {} });
  expect(damaged).toBeGreaterThan(0);
  expect(world.logged('span is damaged, fetching it again').length).toBe(damaged);
}

/** At full scale it takes minutes. */
const timeoutMs = 600_000;

describe.skipIf(!canMount)('a registry that fails under a mount', () => {
  it(
    'is waited for and read from as soon as it is back; it may flap, drip and lie',
    async () => {
      const world = await ChaosWorld.start({ readDeadline: `${outageMs + 6_000}ms` });
      await goesAway(world);
      await lies(world);
      await flaps(world);
      await drips(world);
    },
    timeoutMs,
  );

  it(
    'is not asked by a start whose spans are here; reads end at the deadline when it stays away, and recover',
    async () => {
      const world = await ChaosWorld.start({ readDeadline: '1s' });
      const mount = await world.mount();
      const here = mount.names.slice(0, 4);
      await mount.check(here);
      await world.daemon.unmount(mount.dir);
      expect(await world.daemon.end()).toBe(0);
      await world.front.down();
      world.front.forget();
      await world.startAgain();
      const dir = await world.daemon.mount(mount.image.byDigest);
      await mount.check(here, dir);
      await world.front.up();
      await mount.check(here, dir);
      expect(world.front.requests).toEqual([]);

      await world.front.down();
      const began = performance.now();
      const { code, err } = await mount.compare(['f10'], dir);
      expect([code !== 0, err]).toEqual([true, expect.stringContaining('Input/output error')]);
      expect(performance.now() - began).toBeGreaterThan(900);
      expect(performance.now() - began).toBeLessThan(4_000);
      expect(world.logged('reads fail').length).toBeGreaterThan(0);
      await world.front.up();
      const again = async () => (await mount.compare(['f10', 'f11'], dir)).code;
      await expect.poll(again, { timeout: 8_000 }).toBe(0);
    },
    timeoutMs,
  );
});
