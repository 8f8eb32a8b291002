import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { Node } from '../../src/daemon/node.ts';
import { Pace } from '../../src/fsck/pace.ts';
import { Scrubber } from '../../src/fsck/scrub.ts';
import type { ScrubSettings, ScrubTiming } from '../../src/fsck/scrub.ts';
import { ImageLab, labLayer } from '../support/image-lab.ts';
import { tarOf } from '../support/tar-members.ts';
import { flipBit } from '../support/flip-bit.ts';

const data = randomBytes(600_000);
const patient = { timeout: 20_000 };

/** A node with a complete layer, and what checks it. */
async function situation(o: Partial<ScrubSettings> & { isUnclean?: boolean } = {}) {
  const lab = await ImageLab.start();
  const layer = labLayer(tarOf({ path: 'f', data }));
  const pushed = await lab.push('1', [layer]);
  await lab.pushIndex(pushed, { spanSize: 64 << 10 });
  const node = await lab.node();
  const image = await node.openImage(pushed.reference);
  onTestFinished(() => image.close());
  await image.openLayers[0]?.fillCache({ signal: new AbortController().signal });
  const { data: file } = node.imageDeps.layers.paths(layer.descriptor.digest);
  const settings: { -readonly [Key in keyof ScrubSettings]: ScrubSettings[Key] } = {
    enabled: true,
    interval: 1,
    bandwidth: 0,
    ...o,
  };
  const busy = { now: false };
  return { lab, node, file, layer, settings, busy, scrub: () => scrubber(node, settings, busy, o.isUnclean ?? false) };
}

function scrubber(
  node: Node,
  settings: ScrubSettings,
  busy: { readonly now: boolean },
  isUnclean: boolean,
  slower: Partial<ScrubTiming> = {},
): Scrubber {
  const timing = { restMs: 1, uncleanRestMs: 1, pollMs: 5, againMs: 20, ...slower };
  const scrub = new Scrubber({
    deps: node.fsckDeps,
    settings: () => settings,
    isBusy: () => busy.now,
    isUnclean,
    timing,
  });
  onTestFinished(() => scrub.close());
  scrub.start();
  return scrub;
}

describe('the background check', () => {
  it('mends what it finds, pass after pass, and yields to who is busy', async () => {
    const { file, layer, busy, scrub } = await situation();
    busy.now = true;
    const running = scrub();
    flipBit(file, 300_000);
    await delay(50);
    expect(running.stats()).toMatchObject({ checkedBytes: 0, repaired: 0, isRunning: true });
    busy.now = false;
    await expect.poll(() => running.stats().repaired, patient).toBe(1);
    expect(readFileSync(file).subarray(0, layer.tar.length).equals(layer.tar)).toBe(true);
    flipBit(file, 10);
    await expect.poll(() => running.stats().repaired, patient).toBe(2);
    expect(running.stats().left).toEqual([]);
  });

  it('begins a pass where the one before was left, and anew after an unclean stop', async () => {
    const { node, file, layer, scrub } = await situation({ interval: 3_600_000 });
    const state = join(node.paths.root, 'scrub');
    const after = `sha256:${'f'.repeat(64)}`;
    flipBit(file, 300_000);
    writeFileSync(state, JSON.stringify({ version: 1, upTo: after }));
    const first = scrub();
    await expect.poll(() => first.stats().finishedAt, patient).toBeDefined();
    expect(first.stats()).toMatchObject({ checkedBytes: 0, repaired: 0 });
    await first.close();
    const second = scrub();
    await delay(100);
    expect(second.stats()).toMatchObject({ checkedBytes: 0, isRunning: false });
    await second.close();
    const unclean = scrubber(node, { enabled: true, interval: 3_600_000, bandwidth: 0 }, { now: false }, true);
    await expect.poll(() => unclean.stats().repaired, patient).toBe(1);
    expect(readFileSync(file).subarray(0, layer.tar.length).equals(layer.tar)).toBe(true);
    expect(existsSync(state)).toBe(true);
  });

  it('goes on where the disk does not take how far it is', async () => {
    const { node, file, scrub } = await situation();
    // As little can be written there as on a full disk.
    mkdirSync(join(node.paths.root, 'scrub', 'in the way'), { recursive: true });
    const running = scrub();
    for (const times of [1, 2]) {
      flipBit(file, 300_000);
      await expect.poll(() => running.stats().repaired, patient).toBe(times);
    }
  });

  it.each([
    ['the process after an unclean stop ended at once', true, -1000],
    ['the clock was wrong before', false, 1_000_000_000],
  ])('has a pass due where %s', async (_, isUnclean, finishedAfter) => {
    const { node, file, settings, busy, scrub } = await situation({ interval: 3_600_000 });
    const state = join(node.paths.root, 'scrub');
    writeFileSync(state, JSON.stringify({ version: 1, finishedAt: Date.now() + finishedAfter }));
    flipBit(file, 300_000);
    const first = scrubber(node, settings, busy, isUnclean, { restMs: 60_000, uncleanRestMs: 60_000 });
    await delay(20);
    await first.close();
    expect(first.stats()).toMatchObject({ checkedBytes: 0 });
    const second = scrub();
    await expect.poll(() => second.stats().repaired, patient).toBe(1);
  });

  it('tries again soon what could not be mended, and forgets what is gone', async () => {
    const { lab, node, file, layer, settings, scrub } = await situation({ interval: 3_600_000 });
    const behave = lab.front.interfere(
      () => true,
      (_, response) => response.destroy(),
    );
    node.setLimits({ downloads: { perNode: 8, perImage: 8 }, readDeadlineMs: 300 });
    flipBit(file, 300_000);
    const odd = join(node.paths.root, 'blobs', 'sha256', 'f'.repeat(64));
    mkdirSync(join(odd, 'index'), { recursive: true });
    const running = scrub();
    await expect
      .poll(
        () =>
          running
            .stats()
            .left.map(({ what }) => what)
            .join('; '),
        patient,
      )
      .toMatch(/(have wrong bytes|missing that were here).*cannot be checked: EISDIR/);
    behave();
    node.setLimits({ downloads: { perNode: 8, perImage: 8 }, readDeadlineMs: 10_000 });
    await expect.poll(() => running.stats().repaired, patient).toBeGreaterThan(0);
    expect(readFileSync(file).subarray(0, layer.tar.length).equals(layer.tar)).toBe(true);
    rmSync(odd, { recursive: true });
    settings.interval = 1;
    await expect.poll(() => running.stats().left, patient).toEqual([]);
  });

  it('does nothing where it is switched off', async () => {
    const { file, scrub } = await situation({ enabled: false });
    flipBit(file, 300_000);
    const off = scrub();
    await delay(100);
    expect(off.stats()).toMatchObject({ checkedBytes: 0, isRunning: false });
  });
});

describe('Pace', () => {
  it('spreads what is read over time', async () => {
    const { signal } = new AbortController();
    const pace = new Pace(1_000_000);
    const started = performance.now();
    for (let i = 0; i < 6; i += 1) await pace.take(20_000, signal);
    // The first one is free: what it took is waited for by the next.
    expect(performance.now() - started).toBeGreaterThan(95);
    const free = new Pace(0);
    await free.take(1 << 40, signal);
    await expect(pace.take(1, AbortSignal.abort(new Error('enough')))).rejects.toThrow('enough');
  });
});
