import { randomBytes } from 'node:crypto';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FileMap } from '../../src/layer/file-map.ts';
import { ReadAhead } from '../../src/layer/read-ahead.ts';
import { rounds } from '../support/fixtures.ts';
import { labLayer } from '../support/image-lab.ts';
import { LayerLab } from '../support/layer-lab.ts';
import { archive } from '../support/tar-builder.ts';
import { evenSpans, TouchedLayer } from '../support/touched-layer.ts';

const kib = 1024;
const mib = 1024 * kib;

interface Started {
  readonly layer: TouchedLayer;
  readonly ahead: ReadAhead;
}

function started(
  spans: number,
  options: { spanSize?: number; budget?: number; files?: readonly number[] } = {},
): Started {
  const { spanSize = 256 * kib, budget = 64 * mib, files } = options;
  const layer = new TouchedLayer(evenSpans(spans, spanSize));
  const map = files === undefined ? undefined : new FileMap(Float64Array.from(files));
  const ahead = new ReadAhead({ layer, budget, files: map });
  ahead.start();
  return { layer, ahead };
}

const spansOf = (layer: TouchedLayer) => layer.wanted.map(({ span }) => span).sort((a, b) => a - b);
const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);

/** The same numbers every time. */
function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

describe('ReadAhead of files', () => {
  it('takes the rest of a small file, and no more, when one of its spans is read', () => {
    // From the middle of span 4 to that of span 7.
    const { layer } = started(100, { files: [4.5 * 256 * kib, 7.5 * 256 * kib] });
    layer.touch(5);
    expect(spansOf(layer)).toEqual([4, 6, 7]);
    expect(layer.wanted.every(({ fetchClass }) => fetchClass === 'read-ahead')).toBe(true);
  });

  it('ends when all of a layer was read', () => {
    const { layer, ahead } = started(20);
    for (const span of range(0, 20)) layer.touch(span);
    expect(Math.max(...spansOf(layer))).toBeLessThan(20);
    expect(ahead.stats().openBytes).toBeGreaterThanOrEqual(0);
  });

  it('does not ask for what is here', () => {
    const { layer } = started(100, { files: [4.5 * 256 * kib, 7.5 * 256 * kib] });
    layer.present.add(6);
    layer.touch(5);
    expect(spansOf(layer)).toEqual([4, 7]);
  });

  it('takes a file of up to 4 MiB whole when its first span is read, a larger one not', () => {
    const shared = started(100, { files: [10.5 * 256 * kib, 25 * 256 * kib] });
    shared.layer.touch(10);
    expect(spansOf(shared.layer)).toEqual(range(11, 25));
    const large = started(100, { files: [10.5 * 256 * kib, 27 * 256 * kib] });
    large.layer.touch(10);
    expect(spansOf(large.layer)).toEqual([]);
  });

  it('does not take a touch for one of a file that has only the tail of the span', () => {
    const { layer } = started(100, { files: [10.95 * 256 * kib, 25 * 256 * kib] });
    layer.touch(10);
    expect(spansOf(layer)).toEqual([]);
  });

  it('knows the file that was meant once the read that waited for it is told', () => {
    const { layer } = started(100, { files: [10.95 * 256 * kib, 25 * 256 * kib, 30 * 256 * kib, 99 * 256 * kib] });
    const read = (offset: number) => ({ offset, length: 4096, startedAt: 0, endedAt: 1, error: undefined });
    layer.activity.stalled([read(30 * 256 * kib), read(12 * 256 * kib)]);
    expect(spansOf(layer)).toEqual([]);
    layer.activity.stalled([read(10.95 * 256 * kib)]);
    expect(spansOf(layer)).toEqual(range(10, 25));
  });

  it('stays ahead of who reads a large file in order, to its end and not beyond', () => {
    const { layer } = started(2000, { files: [8 * 256 * kib, 160 * 256 * kib] });
    const late = range(8, 160).filter((span) => {
      const here = layer.touch(span);
      layer.landAll();
      return !here;
    });
    expect(late).toEqual([8, 9]);
    expect(Math.max(...spansOf(layer))).toBe(159);
  });

  it('goes twice as far ahead as was read, up to 8 MiB', () => {
    const { layer } = started(400, { files: [0, 400 * 256 * kib] });
    const furthest = range(0, 40).map((span) => {
      layer.touch(span);
      return Math.max(0, ...spansOf(layer)) - span;
    });
    expect(furthest.slice(0, 6)).toEqual([0, 4, 6, 8, 10, 12]);
    expect(furthest.slice(20)).toEqual(Array(20).fill(32));
  });
});

describe('ReadAhead of neighbours and regions', () => {
  it('takes the files that follow and those between once two near each other were read', () => {
    const files = range(0, 400).flatMap((i) => [i * 64 * kib, i * 64 * kib + 60 * kib]);
    const { layer } = started(100, { files });
    layer.touch(20);
    expect(spansOf(layer)).toEqual([]);
    layer.touch(23);
    expect(spansOf(layer)).toEqual([21, 22, 24, 25]);
    layer.touch(25);
    // One more was read: twice as many.
    expect(Math.max(...spansOf(layer))).toBe(29);
  });

  it('has nothing to do any more when all of the layer was read', () => {
    const { layer } = started(10);
    for (const span of range(0, 10)) layer.touch(span);
    expect(layer.present.size).toBe(10);
    expect(layer.coming.size).toBe(0);
  });

  it('leaves alone what lies around reads that are far from each other', () => {
    const { layer } = started(1000);
    for (const span of [10, 500, 900, 100]) layer.touch(span);
    expect(layer.wanted).toEqual([]);
  });

  it('has nothing left to guess when every span was read', () => {
    const { layer, ahead } = started(40);
    for (const span of range(0, 40)) layer.touch(span);
    layer.landAll();
    expect(layer.wanted.every(({ span }) => span < 40)).toBe(true);
    expect(ahead.stats().openBytes).toBe(0);
  });

  it('takes the rest of the layer when most of it was read', () => {
    const { layer } = started(64, { files: [] });
    // Every other span is too little, and one more is most of it.
    for (let span = 0; span < 64; span += 2) layer.touch(span);
    layer.touch(1);
    layer.landAll();
    expect(layer.present.size).toBe(64);
  });
});

describe('ReadAhead and what it costs', () => {
  // A touch; below zero, what is on its way lands, or another class brings a span.
  const trace = fc.array(fc.oneof(fc.nat(499), fc.constant(-1), fc.integer({ min: -501, max: -2 })), {
    maxLength: 300,
  });
  const runs = fc.array(fc.tuple(fc.nat(450), fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 3 })), {
    maxLength: 12,
  });

  it('keeps to the budget and never asks for what is here or was asked for, whatever is read', () => {
    const budget = 2 * mib;
    const files = range(0, 90).flatMap((i) => [i * 1400 * kib, i * 1400 * kib + (i % 3) * 600 * kib + 4 * kib]);
    fc.assert(
      fc.property(trace, runs, (single, ordered) => {
        const { layer, ahead } = started(500, { budget, files });
        const touches = [
          ...ordered.flatMap(([from, count, step]) => range(0, count).map((i) => from + i * step)),
          ...single,
        ];
        const read = new Set<number>();
        const asked = new Set<number>();
        const otherwise = new Set<number>();
        let seen = 0;
        for (const touch of touches) {
          const before = new Set(layer.present);
          if (touch === -1) layer.landAll();
          else if (touch < 0 && !before.has(-2 - touch)) {
            layer.land(-2 - touch, 'profile');
            otherwise.add(-2 - touch);
          } else if (touch >= 0 && touch < 500) {
            layer.touch(touch);
            read.add(touch);
          }
          for (const { span } of layer.wanted.slice(seen)) {
            if (before.has(span) || asked.has(span) || read.has(span))
              expect.fail(`span ${span} need not be asked for`);
            asked.add(span);
          }
          seen = layer.wanted.length;
          const unread = [...asked].filter((span) => !read.has(span) && !otherwise.has(span)).length * 128 * kib;
          if (unread > budget) expect.fail(`${unread} bytes are not read`);
          expect(ahead.stats().openBytes).toBe(unread);
        }
        const { usedBytes, fetchedBytes } = ahead.stats();
        expect(usedBytes).toBeLessThanOrEqual(fetchedBytes);
      }),
      { numRuns: rounds(400, 40, 0.1) },
    );
  });

  it('spends less and less on reads that follow no order, and again on those that do', () => {
    const random = randomNumbers(7);
    const { layer, ahead } = started(64_000, { spanSize: 256 * kib, budget: 64 * mib });
    const spent: number[] = [];
    for (let round = 0; round < 4; round += 1) {
      const before = ahead.stats().fetchedBytes;
      // Pairs near each other, of which nothing follows.
      for (let i = 0; i < 500; i += 1) {
        const span = Math.floor(random() * 63_990);
        layer.now += 100;
        layer.touch(span);
        layer.touch(span + 3);
        layer.landAll();
      }
      spent.push(ahead.stats().fetchedBytes - before);
    }
    expect(spent[0]).toBeGreaterThan(8 * mib);
    expect(Math.max(...spent.slice(1))).toBeLessThan((spent[0] as number) / 8);
    expect(ahead.stats().accuracy).toBeLessThan(0.4);
    const wasted = ahead.stats();
    // A long read in order is guessed right also while nothing is spent on it: it pays again.
    let late = 0;
    for (const span of range(4000, 6000)) {
      layer.now += 1;
      if (!layer.touch(span)) late += 1;
      layer.landAll();
    }
    expect(ahead.stats().accuracy).toBeGreaterThan(0.6);
    expect(ahead.stats().usedBytes - wasted.usedBytes).toBeGreaterThan(100 * mib);
    expect(late).toBeLessThan(200);
  });

  it('does not count what another class brought, nor for ever what never came', () => {
    const { layer, ahead } = started(1000, { files: [10 * 256 * kib, 14 * 256 * kib] });
    layer.touch(10);
    expect(ahead.stats()).toMatchObject({ wanted: 3, openBytes: 3 * 128 * kib });
    layer.land(11, 'profile');
    expect(ahead.stats().openBytes).toBe(2 * 128 * kib);
    layer.coming.clear();
    layer.now += 20_000;
    for (let span = 100; span < 1000; span += 7) layer.touch(span);
    expect(ahead.stats()).toMatchObject({ openBytes: 0, fetchedBytes: 0 });
  });

  it('is deaf when it is stopped', () => {
    const { layer, ahead } = started(100);
    ahead.stop();
    for (const span of range(0, 100)) layer.touch(span);
    expect(layer.wanted).toEqual([]);
  });
});

describe('ReadAhead of a layer of a registry', () => {
  it('has spans brought that nobody asked for yet', async () => {
    const lab = await LayerLab.start();
    const content = labLayer(archive({ name: 'f', data: randomBytes(2 * mib) }), 'gzip');
    const layer = await lab.open(content, { spanSize: 64 * kib });
    const ahead = new ReadAhead({ layer, budget: 8 * mib });
    ahead.start();
    for (const span of [0, 1]) {
      await layer.read(layer.spans.span(span).streamStart, 1);
      layer.activity.touched(Uint32Array.of(span), Float64Array.of(performance.now()));
    }
    await layer.cache.wait(layer.spans.span(2).streamStart, 1);
    expect(layer.cache.isPresent(2)).toBe(true);
    await layer.close();
    // Late news of a layer that is closed.
    layer.activity.touched(Uint32Array.of(5), Float64Array.of(performance.now()));
    ahead.stop();
  });
});
