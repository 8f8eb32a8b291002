import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { acquireAll, acquireInTime } from '../../src/layer/permits.ts';
import { systemClock } from '../../src/util/clock.ts';
import { Semaphore } from '../../src/util/semaphore.ts';

const inTime = (slots: readonly Semaphore[], patienceMs = 60_000, signal = new AbortController().signal) =>
  acquireInTime(slots, { signal, priority: 3, clock: systemClock, patienceMs });

describe('permits of what nobody waits for', () => {
  it('are not held while one of them cannot be had', async () => {
    const [image, node] = [new Semaphore(1), new Semaphore(1)];
    const used = await node.acquire();
    const seeking = inTime([image, node]);
    await delay(5);
    // A demand of the image takes its only slot at once.
    const demand = await Promise.race([acquireAll([image]), delay(1_000)]);
    expect(demand).toBeDefined();
    used();
    await delay(5);
    expect([image.available, node.available]).toEqual([0, 1]);
    if (demand !== undefined) demand.release();
    const permits = await seeking;
    expect([image.available, node.available]).toEqual([0, 0]);
    permits.release();
    permits.release();
    expect([image.available, node.available]).toEqual([1, 1]);
  });

  it('are as urgent as any after a while, and none is left over when they are not wanted any more', async () => {
    const slots = [new Semaphore(1), new Semaphore(4, { reserve: 2 }), new Semaphore(2)];
    const held = await Promise.all(slots.slice(1).map((slot) => slot.acquire(slot.capacity)));
    const giveUp = new AbortController();
    const [early, late] = [inTime(slots, 60_000, giveUp.signal), inTime(slots, 20)];
    giveUp.abort(new Error('not wanted'));
    await expect(early).rejects.toThrow('not wanted');
    await delay(30);
    for (const permit of held) permit();
    (await late).release();
    expect(slots.map(({ available }) => available)).toEqual([1, 4, 2]);
  });

  it('are got by all of many who want them', async () => {
    const slots = [new Semaphore(2), new Semaphore(3), new Semaphore(2)];
    let running = 0;
    let most = 0;
    const work = Array.from({ length: 30 }, async () => {
      const permits = await inTime(slots);
      running += 1;
      most = Math.max(most, running);
      await delay(1);
      running -= 1;
      permits.release();
    });
    await Promise.all(work);
    expect(most).toBe(2);
  });
});
