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

describe.skipIf(!canMount)('a registry that fails under a mount', () => {
  it('is waited for, asked rarely while it is away, and read from as soon as it is back', async () => {
    const world = await ChaosWorld.start({ readDeadline: `${outageMs + 10_000}ms` });
    const dir = await world.mount();
    const [here, ...others] = world.names;
    await world.check(dir, [here as string]);
    const readers = await world.readers(dir);
    await delay(30);
    await world.front.down();
    const down = performance.now();
    await delay(outageMs / 2);
    // What is in the cache does not notice.
    const began = performance.now();
    await world.check(dir, [here as string]);
    expect(performance.now() - began).toBeLessThan(1_000);
    expect((await world.registries()).map(({ state }) => state)).not.toContain('answering');
    expect(await world.node.ok(['status'])).toMatch(/^registry \S+ fails for .* in a row, .*connection refused/m);
    await delay(outageMs - (performance.now() - down));
    world.front.forget();
    await world.front.up();
    const up = performance.now();
    await world.check(dir, others.slice(0, 3));
    // A probe is due after 5 s at the latest; then everybody is woken.
    expect(performance.now() - up).toBeLessThan(6_500);
    const found = await readers.stop();
    expect(found).toMatchObject({ wrong: 0, errors: {} });
    expect(found.longestMs).toBeGreaterThan(outageMs * 0.8);
    expect(found.longestMs).toBeLessThan(outageMs + 7_000);
    expect((await world.registries()).map(({ state }) => state)).toEqual(['answering']);
    expect(world.logged('registry is left alone').length).toBe(1);
    expect(world.logged('registry answers again').length).toBe(1);
  });

  it('ends reads at the deadline when it stays away, and they recover by themselves', async () => {
    const world = await ChaosWorld.start({ readDeadline: '1s' });
    const dir = await world.mount();
    await world.front.down();
    const began = performance.now();
    const { code, err } = await world.compare(dir, ['f1']);
    expect([code !== 0, err]).toEqual([true, expect.stringContaining('Input/output error')]);
    expect(performance.now() - began).toBeGreaterThan(900);
    expect(performance.now() - began).toBeLessThan(4_000);
    expect(world.logged('reads fail').length).toBeGreaterThan(0);
    await world.front.up();
    await expect.poll(async () => (await world.compare(dir, ['f1', 'f2'])).code, { timeout: 8_000 }).toBe(0);
  });

  it('is not asked by a start whose spans are here', async () => {
    const world = await ChaosWorld.start({ readDeadline: '1s' });
    const first = await world.mount();
    await world.check(first, world.names.slice(0, 4));
    await world.daemon.unmount(first);
    expect(await world.daemon.end()).toBe(0);
    await world.front.down();
    world.front.forget();
    await world.startAgain();
    const again = await world.mount();
    await world.check(again, world.names.slice(0, 4));
    await world.front.up();
    await world.check(again, world.names.slice(0, 4));
    expect(world.front.requests).toEqual([]);
  });

  it('may flap', async () => {
    const world = await ChaosWorld.start({ readDeadline: '20s' });
    const dir = await world.mount();
    const readers = await world.readers(dir);
    for (let i = 0; i < rounds(60, 6, 0); i += 1) {
      await world.front.down();
      await delay(100 + Math.random() * 200);
      await world.front.up();
      await delay(50 + Math.random() * 100);
    }
    await world.check(dir);
    expect(await readers.stop()).toMatchObject({ wrong: 0, errors: {} });
  });

  it('may give a byte now and then, and the next request gets them all', async () => {
    const world = await ChaosWorld.start({ readDeadline: '6s' });
    const dir = await world.mount();
    let asked = 0;
    world.front.interfere(isBlobRange, (_request, response, forward, ask) => {
      asked += 1;
      if (asked % 3 !== 1) return forward();
      void ask().then(({ status, headers, body }) => {
        response.writeHead(status, headers);
        let at = 0;
        const timer = setInterval(() => void response.write(body.subarray(at, (at += 1))), 50);
        response.on('close', () => clearInterval(timer));
      });
    });
    const readers = await world.readers(dir, { readers: 2 });
    await world.check(dir, world.names.slice(0, 4));
    const found = await readers.stop();
    expect(found).toMatchObject({ wrong: 0, errors: {} });
    expect(asked).toBeGreaterThan(3);
  });

  it('may damage one answer in a hundred', async () => {
    const world = await ChaosWorld.start();
    const dir = await world.mount();
    let answers = 0;
    let damaged = 0;
    world.front.interfere(isBlobRange, (_request, response, _forward, ask) => {
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
    const readers = await world.readers(dir);
    await world.check(dir);
    expect(await readers.stop()).toMatchObject({ wrong: 0, errors: {} });
    expect(damaged).toBeGreaterThan(0);
    expect(world.logged('span is damaged, fetching it again').length).toBe(damaged);
  });
});
