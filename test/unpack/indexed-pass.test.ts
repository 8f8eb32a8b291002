import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { readTar } from '../../src/tar/reader.ts';
import { indexedPass, type IndexedPassOptions } from '../../src/unpack/indexed-pass.ts';
import { answer, breaksAt, everything, ignoreRange, stall, stepwise } from '../support/faults.ts';
import { labLayer, sha256 } from '../support/image-lab.ts';
import { LayerLab } from '../support/layer-lab.ts';
import { SinkRecord } from '../support/sink-record.ts';
import { archive } from '../support/tar-builder.ts';

const files = Array.from({ length: 60 }, (_, i) => ({ name: `f${i}`, data: randomBytes(40_000 + 1000 * i) }));
const tar = archive({ name: 'd/', flag: '5' }, ...files, { name: 'text', data: 'text\n'.repeat(400_000) });
const packed = labLayer(tar, 'gzip');
const spanSize = 128 << 10;
const limits = { maxLayerSize: 1 << 30, maxRatio: 1100 };

async function pass(layer: IndexedPassOptions['layer'], change: Partial<IndexedPassOptions> = {}): Promise<SinkRecord> {
  const sink = new SinkRecord();
  await indexedPass({ layer, sink, limits, signal: AbortSignal.timeout(30_000), ...change });
  return sink;
}

function expectAll(sink: SinkRecord): void {
  expect(sink.calls[0]).toBe('begin');
  expect(Buffer.concat(sink.stream).equals(tar)).toBe(true);
  const named = (entries: SinkRecord['members']) => entries.map(({ path, extents }) => ({ path, extents }));
  expect(named(sink.members)).toEqual(named(readTar(tar)));
}

describe('indexedPass', () => {
  it.each(['gzip', 'none'] as const)('brings a layer in order and leaves it complete (%s)', async (compression) => {
    const lab = await LayerLab.start();
    const layer = await lab.open(compression === 'gzip' ? packed : labLayer(tar, compression), { spanSize });
    expect(layer.spans.count).toBeGreaterThan(10);
    expectAll(await pass(layer));
    expect(layer.complete).toBe(true);
    expect((await readFile(layer.paths.data)).subarray(0, tar.length).equals(tar)).toBe(true);
    expect(lab.slots.available).toBe(4);

    // Once more, without anybody to ask.
    lab.front.forget();
    expectAll(await pass(layer));
    expect(lab.front.requests).toEqual([]);
  });

  it.each(['gzip', 'none'] as const)('tells what is here while the rest is on its way (%s)', async (compression) => {
    const lab = await LayerLab.start();
    const made = compression === 'gzip' ? packed : labLayer(tar, compression);
    const layer = await lab.open(made, { spanSize });
    const stops = [0.2, 0.4, 0.6, 0.8].map((part) => Math.floor(part * made.blob.length));
    const line = stepwise({ bytes: made.blob }, stops);
    lab.front.interfere(everything, line.fault);
    const sink = new SinkRecord();
    const written = sink.written.bind(sink);
    let steps = 0;
    sink.written = (offset) => {
      const before = sink.offsets.at(-1) ?? 0;
      written(offset);
      // The next part comes when the sink was told of something of this one.
      if (offset > before && steps < stops.length) {
        steps += 1;
        line.step();
      }
    };
    await pass(layer, { sink });
    expectAll(sink);
    expect(steps).toBe(stops.length);
  });

  it('tells no member before its header is here', async () => {
    const lab = await LayerLab.start();
    const layer = await lab.open(labLayer(tar), { spanSize });
    const sink = new SinkRecord();
    const early: number[] = [];
    const told = sink.entries.bind(sink);
    sink.entries = (entries) => {
      for (const { headerOffset } of entries) if (headerOffset >= (sink.offsets.at(-1) ?? 0)) early.push(headerOffset);
      told(entries);
    };
    await pass(layer, { sink });
    expect(early).toEqual([]);
    expectAll(sink);
  });

  it('asks again for what broke off', async () => {
    const lab = await LayerLab.start();
    const layer = await lab.open(packed, { spanSize });
    let broken = 0;
    lab.front.interfere(
      () => broken++ < 3,
      (request, response, forward, ask) => {
        const from = Number(/bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
        breaksAt({ bytes: packed.blob }, from + 300_000)(request, response, forward, ask);
      },
    );
    expectAll(await pass(layer));
    expect(broken).toBeGreaterThan(3);
  });

  it('stops when it is told to, and gives its permits back', async () => {
    const lab = await LayerLab.start();
    const layer = await lab.open(packed, { spanSize });
    const line = stall();
    lab.front.interfere(everything, line.fault);
    const controller = new AbortController();
    setTimeout(() => controller.abort(new Error('nobody wants it')), 100);
    await expect(pass(layer, { signal: controller.signal })).rejects.toThrow('nobody wants it');
    await layer.close();
    expect(lab.slots.available).toBe(4);
    line.release();
  });

  it('passes on what the sink throws, and asks the sink nothing more', async () => {
    const lab = await LayerLab.start();
    const layer = await lab.open(packed, { spanSize });
    const sink = new SinkRecord();
    const mine = new Error('the disk of the tree is full');
    let calls = 0;
    sink.entries = () => {
      calls += 1;
      throw mine;
    };
    await expect(pass(layer, { sink })).rejects.toBe(mine);
    expect(calls).toBe(1);
  });
});

describe('indexedPass refuses', () => {
  it('a stream that is not the diffID', async () => {
    const lab = await LayerLab.start();
    const layer = await lab.open(packed, { spanSize, diffId: sha256(Buffer.from('other')) });
    await expect(pass(layer)).rejects.toMatchObject({
      name: 'UnpackError',
      code: 'ERR_UNPACK_DIFF_ID',
      message: expect.stringContaining('the image config says'),
    });
  });

  it('a registry that does not give it', async () => {
    const lab = await LayerLab.start();
    const layer = await lab.open(packed, { spanSize });
    lab.front.interfere(everything, answer(403));
    await expect(pass(layer)).rejects.toMatchObject({ code: 'ERR_UNPACK_FETCH' });
    expect(lab.slots.available).toBe(4);
  });

  it('bytes that are not those of its index, in a way that the blob may still be read without it', async () => {
    const lab = await LayerLab.start();
    const good = packed;
    const blob = Buffer.from(good.blob);
    blob.fill(0, 900_000, 900_100);
    const layer = await lab.open(good, { spanSize });
    lab.front.interfere(everything, (request, response) => {
      const [, from = '0', to = ''] = /bytes=(\d+)-(\d*)/.exec(request.headers.range ?? '') ?? [];
      const [start, end] = [Number(from), to === '' ? blob.length : Number(to) + 1];
      const range = `bytes ${start}-${end - 1}/${blob.length}`;
      response.writeHead(206, { 'content-range': range, 'content-length': end - start });
      response.end(blob.subarray(start, end));
    });
    await expect(pass(layer)).rejects.toMatchObject({ name: 'LayerError', code: 'ERR_LAYER_INDEX' });
  });

  it.each([
    ['larger than allowed', { ...limits, maxLayerSize: 1_000_000 }],
    ['of more members than allowed', { ...limits, maxEntries: 10 }],
  ])('a layer that is %s', async (_, narrow) => {
    const lab = await LayerLab.start();
    const layer = await lab.open(packed, { spanSize });
    await expect(pass(layer, { limits: narrow })).rejects.toMatchObject({ code: 'ERR_UNPACK_LIMIT' });
  });

  it('a layer that unpacks to too many times its size', async () => {
    const lab = await LayerLab.start();
    const zeros = labLayer(archive({ name: 'zeros', data: Buffer.alloc(65 << 20) }), 'gzip');
    const layer = await lab.open(zeros, { spanSize: 4 << 20 });
    const narrow = { ...limits, maxRatio: 100 };
    await expect(pass(layer, { limits: narrow })).rejects.toMatchObject({ code: 'ERR_UNPACK_LIMIT' });
    expect(layer.present.spans).toBe(0);
  });
});

it('a registry without ranges serves an indexed layer nevertheless', async () => {
  const lab = await LayerLab.start();
  const layer = await lab.open(packed, { spanSize });
  lab.front.interfere(everything, ignoreRange);
  expectAll(await pass(layer));
});
