import { describe, expect, it } from 'vitest';
import { LinkTable } from '../../src/layer/link-table.ts';
import { Link } from '../../src/layer/link.ts';
import type { LinkTicket } from '../../src/layer/link.ts';
import { VirtualClock } from '../support/virtual-time.ts';

const KiB = 1 << 10;
const MiB = 1 << 20;
const { signal } = new AbortController();

async function at(clock: VirtualClock, ms: number): Promise<void> {
  clock.after(ms - clock.now(), () => {});
  await clock.run({ isOver: () => clock.now() >= ms, untilMs: ms });
}

/** A link over which 100 KiB came per 10 ms, for a second, the first bytes after 20 ms. */
async function measured(): Promise<{ clock: VirtualClock; link: Link }> {
  const clock = new VirtualClock();
  const link = new Link({ clock });
  const blocker = link.demand().begin(200 * MiB);
  const waiting = new AbortController();
  const never = link.admit('background', { signal: waiting.signal, least: 1 }).catch(() => undefined);
  for (let ms = 20; ms <= 1_020; ms += 10) {
    await at(clock, ms);
    blocker.received(100 * KiB);
  }
  waiting.abort();
  await never;
  blocker.end();
  return { clock, link };
}

describe('Link', () => {
  it('starts with a window of its own, and sizes window and requests to what it measured', async () => {
    const fresh = new Link({ clock: new VirtualClock() });
    expect([fresh.window, fresh.bandwidth, fresh.delayMs]).toEqual([2 * MiB, 0, 0]);
    expect(fresh.runLimits('demand')).toEqual({ maxBytes: MiB, maxGap: 64 * KiB });
    expect(fresh.runLimits('profile').maxBytes).toBe(MiB);
    const { link } = await measured();
    const rate = 10 * KiB * 1000;
    expect(link.delayMs).toBe(20);
    expect(link.bandwidth / rate).toBeGreaterThan(0.95);
    expect(link.bandwidth / rate).toBeLessThan(1.15);
    expect(link.window).toBeCloseTo(Math.max(512 * KiB, (link.bandwidth / 1000) * 45 * 1.25), -1);
    const other = link.accompany(1);
    expect(link.runLimits('background').maxBytes).toBe(256 * KiB);
    other.end();
    expect(link.runLimits('demand').maxGap).toBe(Math.round(((link.bandwidth / 1000) * 20) / 2));
  });

  it('lets what nobody waits for start while there is room, the most urgent first, and a demand always', async () => {
    const link = new Link({ clock: new VirtualClock() });
    const first = link.accompany(2 * MiB);
    const order: string[] = [];
    const waiting = (['background', 'profile', 'read-ahead'] as const).map(async (fetchClass) => {
      const ticket = await link.admit(fetchClass, { signal, least: 1 });
      order.push(fetchClass);
      return ticket;
    });
    link.demand().begin(1).end();
    await Promise.resolve();
    expect(order).toEqual([]);
    first.end();
    const [background, profile, readAhead] = waiting as [Promise<LinkTicket>, Promise<LinkTicket>, Promise<LinkTicket>];
    // Two that were promised a MiB each, and leave room when they ask for less.
    const transfers = [(await readAhead).begin(MiB), (await profile).begin(MiB - 1)];
    (await background).cancel();
    expect(order).toEqual(['read-ahead', 'profile', 'background']);
    expect(link.outstanding).toBe(2 * MiB - 1);
    for (const transfer of transfers) transfer.end();
    expect(link.outstanding).toBe(0);
  });

  it('lets no background start while a demand waits for a lease', async () => {
    const link = new Link({ clock: new VirtualClock() });
    const demand = link.demand();
    let isIn = false;
    const background = link.admit('background', { signal, least: 1 }).then((ticket) => {
      isIn = true;
      return ticket;
    });
    await Promise.resolve();
    expect(isIn).toBe(false);
    (await link.admit('profile', { signal, least: 1 })).cancel();
    demand.cancel();
    (await background).cancel();
  });

  it('only keeps the line busy beside a demand', async () => {
    const link = new Link({ clock: new VirtualClock() });
    const demand = link.demand().begin(MiB);
    let isIn = false;
    const other = link.admit('read-ahead', { signal, least: 1 }).then((ticket) => {
      isIn = true;
      return ticket;
    });
    demand.received(768 * KiB);
    await Promise.resolve();
    expect(isIn).toBe(false);
    demand.received(1);
    (await other).cancel();
    demand.end();
  });

  it('keeps as much outstanding beside a demand as comes until the next turn, whatever the delay', async () => {
    const { clock, link } = await measured();
    const busy = (link.bandwidth / 1000) * (link.delayMs + 25);
    const demand = link.demand().begin(MiB);
    let isIn = false;
    const other = link.admit('background', { signal, least: 1 }).then((ticket) => {
      isIn = true;
      return ticket;
    });
    await at(clock, clock.now() + 20);
    demand.received(MiB - Math.ceil(busy) - 1);
    await Promise.resolve();
    expect(isIn).toBe(false);
    demand.received(2);
    (await other).cancel();
    demand.end();
  });

  it('promises a large span all that it needs', async () => {
    const link = new Link({ clock: new VirtualClock() });
    const first = await link.admit('profile', { signal, least: 4 * MiB });
    let isIn = false;
    const second = link.admit('profile', { signal, least: 4 * MiB }).then((ticket) => {
      isIn = true;
      return ticket;
    });
    await Promise.resolve();
    expect(isIn).toBe(false);
    first.cancel();
    (await second).cancel();
  });

  it('does not count what does not come', async () => {
    const link = new Link({ clock: new VirtualClock() });
    const stuck = link.accompany(3 * MiB);
    stuck.received(MiB);
    expect(link.outstanding).toBe(2 * MiB);
    stuck.idle();
    expect(link.outstanding).toBe(0);
    stuck.received(1);
    expect(link.outstanding).toBe(2 * MiB - 1);
    stuck.end();
    stuck.end();
    expect(link.outstanding).toBe(0);
  });

  it('lets one request of a class through that waited for long, and one that gave up out', async () => {
    const clock = new VirtualClock();
    const link = new Link({ clock });
    link.accompany(4 * MiB);
    const ending = new AbortController();
    const gone = link.admit('profile', { signal: ending.signal, least: 1 });
    ending.abort(new Error('enough'));
    await expect(gone).rejects.toThrow('enough');
    const times: number[] = [];
    for (let i = 0; i < 2; i += 1) {
      void link.admit('background', { signal, least: 1 }).then((ticket) => {
        expect(ticket.isOverdue).toBe(true);
        times.push(clock.now());
        ticket.cancel();
      });
    }
    await clock.run({ isOver: () => times.length === 2, untilMs: 60_000 });
    expect(times).toEqual([5_000, 10_000]);
  });
});

describe('LinkTable', () => {
  it('has one link for each host', () => {
    const table = new LinkTable({ requests: 3 });
    const link = table.of({ host: 'a', name: 'a/x' });
    expect(table.of({ host: 'a', name: 'a/y' })).toBe(link);
    expect(table.of({ name: 'a/y' })).not.toBe(link);
    expect(link.slots.capacity).toBe(3);
    table.setRequests(5);
    expect(link.slots.capacity).toBe(5);
    for (let i = 0; i < 100; i += 1) table.of({ name: `local ${i}` });
    expect(table.links.length).toBe(64);
  });
});
