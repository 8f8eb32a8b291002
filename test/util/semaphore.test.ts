import { describe, expect, it } from 'vitest';
import { Semaphore } from '../../src/util/semaphore.ts';

describe('Semaphore', () => {
  it('grants in the order of arrival, also past a heavy waiter', async () => {
    const semaphore = new Semaphore(3);
    const first = await semaphore.acquire(2);
    const order: string[] = [];
    const heavy = semaphore.acquire(3).then((permit) => {
      order.push('heavy');
      permit();
    });
    const light = semaphore.acquire(1).then((permit) => {
      order.push('light');
      permit();
    });
    expect(semaphore.tryAcquire(1)).toBeUndefined();
    first();
    await Promise.all([heavy, light]);
    expect(order).toEqual(['heavy', 'light']);
    expect(semaphore.available).toBe(3);
  });

  it('lets a weight above the capacity run alone', async () => {
    const semaphore = new Semaphore(2);
    const permit = await semaphore.acquire(100);
    expect(semaphore.available).toBe(0);
    permit();
    expect(semaphore.available).toBe(2);
  });

  it('gives back once, however often the permit is called', async () => {
    const semaphore = new Semaphore(2);
    const permit = await semaphore.acquire();
    permit();
    permit();
    expect(semaphore.available).toBe(2);
  });

  it('forgets an aborted waiter and lets those behind it go', async () => {
    const semaphore = new Semaphore(2);
    const held = await semaphore.acquire(1);
    const controller = new AbortController();
    const heavy = semaphore.acquire(2, { signal: controller.signal });
    const light = semaphore.acquire(1);
    controller.abort(new Error('enough'));
    await expect(heavy).rejects.toThrow('enough');
    (await light)();
    held();
    expect(semaphore.available).toBe(2);
    expect(semaphore.waiting).toBe(0);
  });

  it('refuses a signal that is already aborted', async () => {
    await expect(new Semaphore(1).acquire(1, { signal: AbortSignal.abort(new Error('late')) })).rejects.toThrow('late');
  });

  it('takes another capacity while it is in use', async () => {
    const semaphore = new Semaphore(2);
    const [first, second] = [await semaphore.acquire(1), await semaphore.acquire(1)];
    const heavy = semaphore.acquire(2);
    semaphore.resize(1);
    expect(semaphore.available).toBe(-1);
    first();
    expect(semaphore.waiting).toBe(1);
    second();
    (await heavy)();
    expect([semaphore.available, semaphore.waiting]).toEqual([1, 0]);
    const [only, more] = [await semaphore.acquire(1), semaphore.acquire(1)];
    semaphore.resize(3);
    (await more)();
    only();
    expect(semaphore.available).toBe(3);
  });

  it('gives back what run() held when the work fails', async () => {
    const semaphore = new Semaphore(1);
    await expect(semaphore.run(() => Promise.reject(new Error('broken')))).rejects.toThrow('broken');
    expect(semaphore.available).toBe(1);
  });

  it('never lends more than its capacity to 200 workers', async () => {
    const semaphore = new Semaphore(5);
    let used = 0;
    let peak = 0;
    const work = async (weight: number) => {
      const permit = await semaphore.acquire(weight);
      used += weight;
      peak = Math.max(peak, used);
      await new Promise((resolve) => setImmediate(resolve));
      used -= weight;
      permit();
    };
    await Promise.all(Array.from({ length: 200 }, (_, i) => work((i % 5) + 1)));
    expect(peak).toBe(5);
    expect(semaphore.available).toBe(5);
  });

  it('rejects a capacity that is not positive', () => {
    expect(() => new Semaphore(0)).toThrow(TypeError);
    expect(() => new Semaphore(Number.NaN)).toThrow(TypeError);
  });

  it('grants the more urgent first, and in the order of arrival among equals', async () => {
    const semaphore = new Semaphore(1);
    const held = await semaphore.acquire();
    const order: string[] = [];
    const waiting = (
      [
        ['c', 2],
        ['a', 0],
        ['d', 2],
        ['b', 1],
      ] as const
    ).map(async ([name, priority]) => {
      const permit = await semaphore.acquire(1, { priority });
      order.push(name);
      permit();
    });
    expect(semaphore.waiting).toBe(4);
    held();
    await Promise.all(waiting);
    expect(order.join('')).toBe('abcd');
    expect(semaphore.available).toBe(1);
    await expect(semaphore.acquire(1, { priority: -1 })).rejects.toThrow(TypeError);
  });

  it('keeps what is reserved for the most urgent, also when it is resized', async () => {
    const semaphore = new Semaphore(4, { reserve: 2 });
    const held = [await semaphore.acquire(1, { priority: 1 }), await semaphore.acquire(1, { priority: 3 })];
    let isIn = false;
    const patient = semaphore.acquire(1, { priority: 1 }).then((permit) => {
      isIn = true;
      return permit;
    });
    // The urgent ones do not stand behind those that may not have the last units.
    held.push(await semaphore.acquire(), await semaphore.acquire());
    held.pop()?.();
    held.pop()?.();
    await Promise.resolve();
    expect([isIn, semaphore.available]).toEqual([false, 2]);
    semaphore.resize(5);
    (await patient)();
    for (const permit of held) permit();
    expect(semaphore.available).toBe(5);
    semaphore.resize(1);
    (await semaphore.acquire(1, { priority: 1 }))();
    // One that is heavier than what it may have gets all of that.
    semaphore.resize(4);
    const heavy = await semaphore.acquire(100, { priority: 1 });
    expect(semaphore.available).toBe(2);
    heavy();
    expect(semaphore.available).toBe(4);
  });
});
