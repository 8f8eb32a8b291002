import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { LeasePool } from '../../src/unpack/leases.ts';
import type { Permit } from '../../src/util/semaphore.ts';

/** Asks for a lease and notes when it is granted. */
function ask(pool: LeasePool, image: string, granted: string[], signal?: AbortSignal): Promise<Permit> {
  const lease = pool.acquire(image, { signal });
  lease.then(
    () => granted.push(image),
    () => {},
  );
  return lease;
}

describe('LeasePool', () => {
  it('lends so many to the node and so many to one image', async () => {
    const pool = new LeasePool({ perNode: 3, perImage: 2 });
    const granted: string[] = [];
    const a = [1, 2, 3].map(() => ask(pool, 'a', granted));
    const b = [1, 2].map(() => ask(pool, 'b', granted));
    await turn();
    // The third of `a` does not hold up `b`.
    expect(granted).toEqual(['a', 'a', 'b']);
    expect(pool.status()).toEqual({ limit: 3, perImage: 2, held: 3, waiting: 2 });
    expect(pool.images()).toEqual([
      { image: 'a', held: 2, waiting: 1 },
      { image: 'b', held: 1, waiting: 1 },
    ]);
    (await b[0])?.();
    await turn();
    expect(granted.slice(3)).toEqual(['b']);
    (await a[0])?.();
    await turn();
    expect(granted.slice(3)).toEqual(['b', 'a']);
    for (const lease of [...a, ...b]) (await lease)();
    expect(pool.status()).toMatchObject({ held: 0, waiting: 0 });
    expect(pool.images()).toEqual([]);
  });

  it('lets images take turns, and keeps the order within one', async () => {
    const pool = new LeasePool({ perNode: 1, perImage: 1 });
    const granted: string[] = [];
    const work = (image: string, name: string) =>
      pool.run(image, () => {
        granted.push(name);
        return turn();
      });
    const first = await pool.acquire('big');
    const all = [1, 2, 3, 4, 5].map((n) => work('big', `big ${n}`));
    all.push(...[1, 2].map((n) => work('small', `small ${n}`)), work('tiny', 'tiny 1'));
    first();
    await Promise.all(all);
    expect(granted).toEqual(['big 1', 'small 1', 'tiny 1', 'big 2', 'small 2', 'big 3', 'big 4', 'big 5']);
  });

  it('does not let one that comes back overtake one that waits', async () => {
    const pool = new LeasePool({ perNode: 1, perImage: 1 });
    const granted: string[] = [];
    let lease = await pool.acquire('a');
    const b = ask(pool, 'b', granted);
    const again = ask(pool, 'a', granted);
    lease();
    lease = await b;
    const thrice = ask(pool, 'b', granted);
    lease();
    (await again)();
    (await thrice)();
    expect(granted).toEqual(['b', 'a', 'b']);
  });

  it('is given back once, however often', async () => {
    const pool = new LeasePool({ perNode: 2, perImage: 2 });
    const lease = await pool.acquire('a');
    const other = await pool.acquire('a');
    lease();
    lease();
    lease[Symbol.dispose]();
    expect(pool.status().held).toBe(1);
    other();
  });

  it('forgets who does not wait any more, and an image without anybody', async () => {
    const pool = new LeasePool({ perNode: 1, perImage: 1 });
    const granted: string[] = [];
    const held = await pool.acquire('a');
    const controller = new AbortController();
    const gone = ask(pool, 'b', granted, controller.signal);
    const behind = ask(pool, 'b', granted);
    const other = ask(pool, 'c', granted, controller.signal);
    controller.abort(new Error('enough'));
    await expect(gone).rejects.toThrow('enough');
    await expect(other).rejects.toThrow('enough');
    expect(pool.images().map(({ image, waiting }) => [image, waiting])).toEqual([
      ['a', 0],
      ['b', 1],
    ]);
    held();
    (await behind)();
    expect(granted).toEqual(['b']);
    expect(pool.images()).toEqual([]);
    await expect(pool.acquire('a', { signal: AbortSignal.abort(new Error('late')) })).rejects.toThrow('late');
    expect(pool.images()).toEqual([]);
  });

  it('does not take a lease back that was granted before its signal was aborted', async () => {
    const pool = new LeasePool({ perNode: 1, perImage: 1 });
    const controller = new AbortController();
    const lease = pool.acquire('a', { signal: controller.signal });
    controller.abort(new Error('enough'));
    expect(pool.status().held).toBe(1);
    (await lease)();
    expect(pool.status().held).toBe(0);
  });

  it('gives back what it lent to work that fails', async () => {
    const pool = new LeasePool({ perNode: 1, perImage: 1 });
    await expect(pool.run('a', () => Promise.reject(new Error('broken')))).rejects.toThrow('broken');
    await expect(
      pool.run('a', () => {
        throw new Error('at once');
      }),
    ).rejects.toThrow('at once');
    expect(pool.status()).toMatchObject({ held: 0, waiting: 0 });
  });

  it('takes other limits while it is in use', async () => {
    const pool = new LeasePool({ perNode: 4, perImage: 1 });
    const granted: string[] = [];
    const all = [1, 2, 3].map(() => ask(pool, 'a', granted));
    await turn();
    expect(granted).toHaveLength(1);
    pool.resize({ perNode: 4, perImage: 2 });
    await turn();
    expect(granted).toHaveLength(2);
    pool.resize({ perNode: 1, perImage: 2 });
    (await all[0])?.();
    await turn();
    expect([granted.length, pool.status()]).toEqual([2, { limit: 1, perImage: 2, held: 1, waiting: 1 }]);
    (await all[1])?.();
    (await all[2])?.();
    expect(granted).toHaveLength(3);
    expect(() => pool.resize({ perNode: 0, perImage: 1 })).toThrow(TypeError);
    expect(() => new LeasePool({ perNode: 1, perImage: Number.NaN })).toThrow(TypeError);
    expect(pool.status().limit).toBe(1);
  });

  it('never lends more than its limits, to whomever and however they leave', async () => {
    const pool = new LeasePool({ perNode: 5, perImage: 2 });
    const used = new Map<string, number>();
    let peak = 0;
    const work = async (i: number) => {
      const image = `image ${i % 7}`;
      const controller = new AbortController();
      if (i % 3 === 0) setTimeout(() => controller.abort(new Error('gone')), i % 11);
      try {
        await pool.run(
          image,
          async () => {
            used.set(image, (used.get(image) ?? 0) + 1);
            expect(used.get(image)).toBeLessThanOrEqual(2);
            peak = Math.max(
              peak,
              [...used.values()].reduce((sum, n) => sum + n, 0),
            );
            await new Promise((resolve) => setTimeout(resolve, i % 4));
            used.set(image, (used.get(image) ?? 0) - 1);
            if (i % 5 === 0) throw new Error('broken');
          },
          { signal: controller.signal },
        );
      } catch (error) {
        expect(String(error)).toMatch(/gone|broken/);
      }
    };
    await Promise.all(Array.from({ length: 300 }, (_, i) => work(i)));
    expect(peak).toBe(5);
    expect(pool.status()).toMatchObject({ held: 0, waiting: 0 });
    expect(pool.images()).toEqual([]);
  });
});
