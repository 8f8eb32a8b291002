import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { CacheKeeper } from '../../src/image/cache-keeper.ts';
import type { KeeperTiming } from '../../src/image/cache-keeper.ts';
import { LayerActivity } from '../../src/layer/layer-activity.ts';
import { noteMemoryShortage } from '../../src/native/memory-shortage.ts';
import { createLog } from '../../src/observe/log.ts';
import type { Digest } from '../../src/oci/digest.ts';
import { CacheSituation } from '../support/cache-situation.ts';
import type { SituationSpan } from '../support/cache-situation.ts';
import { tempDir } from '../support/tmp.ts';

const digest = `sha256:${'a'.repeat(64)}` as Digest;
const kib = 1024;
const block = 4 * kib;

function lazyLayer(count: number, lastUsed: (span: number) => number, complete = false) {
  const spans: SituationSpan[] = Array.from({ length: count }, (_, span) => {
    return { bytes: block, lastUsed: lastUsed(span), present: true, claimed: false };
  });
  return { digest, usedAt: 1, compressedBytes: 0, idle: false, complete, spans };
}

interface World {
  readonly stock: CacheSituation;
  readonly settings?: { limit: string; high: number; low: number };
  readonly free?: number;
  readonly root?: string;
  readonly timing?: Partial<KeeperTiming>;
}

function keeperOf({ stock, settings, free = 1 << 30, root = tempDir(), timing }: World) {
  const to = join(tempDir(), 'log');
  const log = createLog({ to });
  const said = () => {
    const lines = existsSync(to) ? readFileSync(to, 'utf8').trim().split('\n') : [];
    return lines.map((line) => JSON.parse(line) as { level: number; msg: string });
  };
  const config = settings ?? { limit: `${100 * 4}KiB`, high: 90, low: 50 };
  const space = { totalBytes: 1 << 30, freeBytes: free };
  const fast = { busyMs: 5, idleMs: 5, measureMs: 20, ...timing };
  const keeper = new CacheKeeper({ root, settings: () => config, stock, space: () => space, log, timing: fast });
  onTestFinished(() => keeper.close());
  return { keeper, said, config, space, warnings: () => said().filter(({ level }) => level >= 40) };
}

const refusal = (code: string) => Object.assign(new Error(`${code}: write a span`), { code });

const present = ({ spans }: { spans: readonly SituationSpan[] }) => spans.filter((span) => span.present).length;

describe('CacheKeeper', () => {
  it('does nothing below high, and goes down to low from there', async () => {
    const layer = lazyLayer(89, (span) => span);
    const w = keeperOf({ stock: new CacheSituation([layer], 1_000) });
    await w.keeper.check();
    expect(present(layer)).toBe(89);
    w.config.high = 89;
    await w.keeper.check();
    expect(layer.spans.map((span) => span.present)).toEqual(layer.spans.map((_, span) => span >= 39));
    expect(w.keeper.stats()).toMatchObject({ usedBytes: 50 * block, limitBytes: 100 * block, evictedSpans: 39 });
    expect(w.said().map(({ msg }) => msg)).toEqual(['made room in the cache']);
  });

  it('allows filling only once measured, and only below low', async () => {
    const layer = lazyLayer(49, () => 1);
    const { keeper } = keeperOf({ stock: new CacheSituation([layer], 1_000) });
    expect(keeper.fillAllowed()).toBe('the cache is being measured');
    await keeper.check();
    expect(keeper.fillAllowed()).toBeUndefined();
    keeper.landed(block);
    expect(keeper.fillAllowed()).toBe('the cache is full: 200 KiB of 400 KiB');
  });

  it('makes room at once when what lands reaches high', async () => {
    const layer = lazyLayer(80, () => 1);
    const w = keeperOf({ stock: new CacheSituation([layer], 1_000), timing: { busyMs: 60_000, idleMs: 60_000 } });
    await w.keeper.check();
    const activity = new LayerActivity();
    const spans = { span: () => ({ streamStart: 0, streamEnd: 5 * block }) };
    const stop = w.keeper.watch({ activity, spans } as unknown as Parameters<CacheKeeper['watch']>[0]);
    const at = { askedAt: 0, sentAt: 0, landedAt: 0, retries: 0, source: '' };
    const land = () => activity.fetched({ span: 0, fetchClass: 'demand', bytes: 1, ...at });
    land();
    await wait(20);
    expect(w.keeper.stats().evictedSpans).toBe(0);
    layer.spans.push(...lazyLayer(20, () => 5).spans);
    land();
    await expect.poll(() => present(layer)).toBe(50);
    stop();
    land();
    expect(w.keeper.stats().usedBytes).toBe(50 * block);
  });

  it('takes a disk that is full for a full cache, at once', async () => {
    const layer = lazyLayer(20, (span) => span);
    const w = keeperOf({ stock: new CacheSituation([layer], 1_000), timing: { busyMs: 60_000, idleMs: 60_000 } });
    await w.keeper.check();
    const activity = new LayerActivity();
    w.keeper.watch({ activity } as unknown as Parameters<CacheKeeper['watch']>[0]);
    activity.refused(refusal('EIO'));
    await wait(20);
    expect(present(layer)).toBe(20);
    activity.refused(refusal('ENOSPC'));
    await expect.poll(() => present(layer)).toBe(10);
    await wait(20);
    expect(present(layer)).toBe(10);
  });

  it('lets nothing come that nobody waits for while the disk takes nothing, and says so once', async () => {
    const layer = lazyLayer(5, (span) => span);
    const timing = { busyMs: 60_000, idleMs: 60_000, refusedMs: 50 };
    const w = keeperOf({ stock: new CacheSituation([layer], 1_000), timing });
    await w.keeper.check();
    expect(w.keeper.fillAllowed()).toBeUndefined();
    expect(w.keeper.readAheadRoom()).toBeGreaterThan(0);
    for (let i = 0; i < 3; i += 1) w.keeper.refused(refusal('EIO'));
    expect(w.keeper.fillAllowed()).toContain('the disk takes nothing more: EIO');
    expect(w.keeper.readAheadRoom()).toBe(0);
    w.keeper.landed(1);
    expect(w.warnings().length).toBe(1);
    await wait(60);
    expect(w.keeper.fillAllowed()).toBeUndefined();
    w.keeper.refused(refusal('EIO'));
    expect(w.warnings().length).toBe(1);
    await wait(60);
    w.keeper.landed(1);
    w.keeper.refused(refusal('EIO'));
    expect(w.warnings().length).toBe(2);
  });

  it('gives way to what else fills the disk', async () => {
    const layer = lazyLayer(40, () => 1);
    const w = keeperOf({ stock: new CacheSituation([layer], 1_000), free: 4 * block });
    await w.keeper.check();
    // 44 blocks can be had at most, of which half may stay.
    expect(present(layer)).toBe(22);
  });

  it('leaves what was read within 30 s between high and limit, and what was read a moment ago beyond that', async () => {
    const recent = lazyLayer(95, (span) => (span < 60 ? 990 : 999));
    const w = keeperOf({
      stock: new CacheSituation([recent], 1_000),
      settings: { limit: '400KiB', high: 90, low: 10 },
    });
    await w.keeper.check();
    expect(present(recent)).toBe(95);
    expect(w.warnings()).toMatchObject([{ msg: expect.stringContaining('over its bounds') }]);
    recent.spans.push(...lazyLayer(10, () => 999).spans);
    await wait(10);
    await w.keeper.check();
    expect(recent.spans.filter((span) => span.present).map(({ lastUsed }) => lastUsed)).toEqual(Array(45).fill(999));
  });

  it('says once what cannot go, and again only after it went', async () => {
    const pinned = lazyLayer(95, () => 1, true);
    const w = keeperOf({ stock: new CacheSituation([pinned], 1_000) });
    for (let n = 0; n < 3; n += 1) {
      await wait(8);
      await w.keeper.check();
    }
    expect(w.warnings()).toHaveLength(1);
    w.config.limit = '1GiB';
    await w.keeper.check();
    w.config.limit = '400KiB';
    await wait(8);
    await w.keeper.check();
    expect(w.warnings()).toHaveLength(2);
  });

  it('never takes what is protected, until that ends', async () => {
    const layer = lazyLayer(95, () => 1);
    const w = keeperOf({ stock: new CacheSituation([layer], 1_000) });
    const all = [...layer.spans.keys()];
    const end = w.keeper.protect(digest, all);
    w.keeper.protect(digest, [3])();
    await w.keeper.check();
    expect(present(layer)).toBe(95);
    end();
    await wait(10);
    await w.keeper.check();
    expect(present(layer)).toBe(50);
  });

  it('leaves it to the process that has the lock, and takes over when that is gone', async () => {
    const root = tempDir();
    const first = keeperOf({ root, stock: new CacheSituation([lazyLayer(95, () => 1)], 1_000) });
    await first.keeper.check();
    const layer = lazyLayer(95, () => 1);
    const second = keeperOf({ root, stock: new CacheSituation([layer], 1_000) });
    await second.keeper.check();
    expect(present(layer)).toBe(95);
    expect(second.keeper.fillAllowed()).toMatch(/full/);
    await first.keeper.close();
    second.keeper.start();
    await expect.poll(() => present(layer)).toBe(50);
  });

  // Last: it stays so for some seconds.
  it('lets nothing come that nobody waits for while memory is short, and says so', async () => {
    const w = keeperOf({ stock: new CacheSituation([lazyLayer(5, (span) => span)], 1_000) });
    await w.keeper.check();
    expect(w.keeper.shortage()).toBeUndefined();
    noteMemoryShortage();
    expect(w.keeper.fillAllowed()).toBe('memory is short');
    expect(w.keeper.readAheadRoom()).toBe(0);
    await w.keeper.check();
    expect(w.warnings().map(({ msg }) => msg)).toEqual([expect.stringMatching(/^memory is short/)]);
  });
});
