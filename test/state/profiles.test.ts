import * as fc from 'fast-check';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { maxProfileSpans as formatLimit } from '../../src/index/profile-names.ts';
import { parseDigest } from '../../src/oci/digest.ts';
import { openDatabase } from '../../src/state/database.ts';
import { maxProfileSpans, mergeRun, noRuns, profileOrder } from '../../src/state/profile-merge.ts';
import type { LayerOrder } from '../../src/state/profiles.ts';
import { openState } from '../../src/state/state.ts';
import { rounds } from '../support/fixtures.ts';
import { tempDir } from '../support/tmp.ts';

const digest = (letter: string) => parseDigest(`sha256:${letter.repeat(64)}`);
const image = digest('a');
const order = (spans: readonly number[], more: Partial<LayerOrder> = {}): LayerOrder => ({
  layer: digest('b'),
  index: digest('c'),
  format: 'peel',
  spanCount: 100,
  spans,
  ...more,
});
const merged = (...runs: readonly number[][]) => runs.reduce(mergeRun, noRuns);

function table() {
  return openState(tempDir('peel-profiles-')).profiles;
}

describe('the order of several starts', () => {
  it('has what a third of them touched, by the mean of its places', () => {
    expect(profileOrder(merged([7, 3, 5]))).toEqual([7, 3, 5]);
    expect(profileOrder(merged([1, 2, 3], [3, 2, 1], [3, 1, 2]))).toEqual([3, 1, 2]);
    expect(profileOrder(merged([1], [1], [1, 9]))).toEqual([1, 9]);
    expect(profileOrder(merged([1], [1], [1], [1, 9]))).toEqual([1]);
    expect(profileOrder(merged([1], [1], [1], [1, 9], [9, 1]))).toEqual([1, 9]);
  });

  it('follows a program that changed', () => {
    const before = Array.from({ length: 200 }, () => [1, 2]);
    expect(profileOrder(merged(...before))).toEqual([1, 2]);
    const after = Array.from({ length: 100 }, () => [8]);
    expect(profileOrder(merged(...before, ...after))).toEqual([8]);
  });

  it('is bounded, and keeps what most starts touch', () => {
    const many = (from: number) => Array.from({ length: maxProfileSpans }, (_, i) => from + i);
    const twice = merged(many(0), many(100));
    expect(twice.spans).toHaveLength(maxProfileSpans);
    expect(twice.spans.filter(({ runs }) => runs === 2)).toHaveLength(maxProfileSpans - 100);
    expect(maxProfileSpans).toBe(formatLimit);
  });

  it('has each span that enough starts touched, once', () => {
    const run = fc.uniqueArray(fc.nat(20));
    fc.assert(
      fc.property(fc.array(run, { minLength: 1, maxLength: 20 }), (runs) => {
        const spans = profileOrder(merged(...runs));
        const often = new Set(runs.flat());
        for (const span of often)
          if (runs.filter((each) => each.includes(span)).length * 3 < runs.length) often.delete(span);
        expect(spans).toHaveLength(often.size);
        expect(new Set(spans)).toEqual(often);
      }),
      { numRuns: rounds(1, 30, 200) },
    );
  });
});

describe('the profiles of a node', () => {
  it('wait for another process that writes without keeping this one waiting', async () => {
    const root = tempDir('peel-profiles-');
    const [here, other] = [openState(root), openDatabase(join(root, 'peel.db'))];
    onTestFinished(() => {
      here.close();
      other.close();
    });
    other.exec('BEGIN IMMEDIATE');
    const began = performance.now();
    const merged = here.profiles.mergeSoon(image, [order([1])], { pauseMs: 10 });
    const kept = here.profiles.putSoon(image, [{ ...order([1]), runs: 2 }], 'elsewhere', { attempts: 2, pauseMs: 1 });
    expect(performance.now() - began).toBeLessThan(1_000);
    expect(await kept).toBe(false);
    expect(here.profiles.get(image)).toEqual([]);
    other.exec('COMMIT');
    expect(await merged).toBe(true);
    expect(here.profiles.get(image)).toMatchObject([{ runs: 1, source: 'recorded' }]);
    expect(await here.profiles.putSoon(image, [{ ...order([1]), runs: 2 }], 'elsewhere')).toBe(true);
    expect(here.starts.busyTimeoutMs).toBe(20_000);
  });

  it('have one row per layer and index, and survive', () => {
    const root = tempDir('peel-profiles-');
    const first = openState(root);
    const other = order([1], { index: digest('d'), format: 'soci-v1' });
    expect(first.profiles.merge(image, [order([5, 4])], 1000)).toBe(true);
    expect(first.profiles.merge(image, [order([4, 5, 6]), other], 2000)).toBe(true);
    first.close();
    const { profiles } = openState(root);
    const rows = profiles.get(image);
    expect(rows.map(({ index, runs, source, updatedAt }) => [index, runs, source, updatedAt])).toEqual([
      [digest('c'), 2, 'recorded', 2000],
      [digest('d'), 1, 'recorded', 2000],
    ]);
    expect(rows[0]?.spans).toEqual([
      { span: 4, runs: 2, place: 0.5 },
      { span: 5, runs: 2, place: 0.5 },
      { span: 6, runs: 1, place: 2 },
    ]);
    expect(profiles.list()).toHaveLength(2);
    expect(profiles.delete(image)).toBe(2);
    expect(profiles.get(image)).toEqual([]);
  });

  it('count a start for layers that it did not touch, and none that touched nothing', () => {
    const profiles = table();
    const quiet = order([], { layer: digest('e') });
    expect(profiles.merge(image, [order([]), quiet])).toBe(false);
    profiles.merge(image, [order([1]), quiet]);
    expect(profiles.get(image).map(({ layer }) => layer)).toEqual([digest('b')]);
    profiles.merge(image, [order([]), order([3], { layer: digest('e') })]);
    expect(profiles.get(image).map(({ layer, runs }) => [layer, runs])).toEqual([
      [digest('b'), 2],
      [digest('e'), 1],
    ]);
  });

  it('begin anew when the index has another number of spans', () => {
    const profiles = table();
    profiles.merge(image, [order([1, 2])]);
    profiles.merge(image, [order([3], { spanCount: 50 })]);
    expect(profiles.get(image)).toMatchObject([{ runs: 1, spanCount: 50, spans: [{ span: 3 }] }]);
  });

  it('go on from one that was found', () => {
    const profiles = table();
    profiles.put(image, [{ ...order([9, 8]), runs: 5 }], 'referrer in there');
    expect(profiles.get(image)).toMatchObject([{ runs: 5, source: 'referrer in there' }]);
    profiles.merge(image, [order([8, 7])]);
    const [row] = profiles.get(image);
    expect(row).toMatchObject({ runs: 6, source: 'recorded' });
    expect(row && profileOrder(row)).toEqual([9, 8]);
  });
});
