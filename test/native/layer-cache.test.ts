import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { Worker } from 'node:worker_threads';
import { constants, createDeflateRaw, gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import binding from 'zstd-napi/binding.js';
import {
  type DecodeRequest,
  type DecodeRun,
  LayerCache,
  type LayerCacheOptions,
  type ReadStall,
  setInflateBackend,
} from '../../src/native/layer-cache.ts';

const addonPath = new URL('../../native/build/Release/peel.node', import.meta.url).pathname;
const stream = Buffer.concat([randomBytes(70_000), Buffer.alloc(50_000, 'text ')]);
const starts = [0, 30_000, 60_000, 90_000, stream.length];

let root: string;
let options: LayerCacheOptions;
const opened: LayerCache[] = [];

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'peel-native-'));
  options = {
    dir: join(root, 'blobs/layer'),
    livePath: join(root, 'run/live/layer'),
    streamSize: stream.length,
    spanStarts: Float64Array.from(starts),
    fingerprint: Buffer.alloc(32, 7),
  };
});

afterEach(async () => {
  await Promise.all(opened.splice(0).map(async (cache) => cache.close()));
  rmSync(root, { recursive: true, force: true });
});

function open(changes: Partial<LayerCacheOptions> = {}): LayerCache {
  const cache = LayerCache.open({ ...options, ...changes });
  opened.push(cache);
  return cache;
}

function member(span: number, changes: Partial<DecodeRequest> = {}): DecodeRequest {
  const data = gzipSync(stream.subarray(starts[span], starts[span + 1]));
  const sha256 = createHash('sha256').update(data).digest();
  return { span, decoder: 'gzip-member', bits: 0, data, window: undefined, sha256, openEnded: false, ...changes };
}

/** One deflate stream, cut where spans begin: each piece begins and ends at a byte and needs the text before it. */
async function checkpoints(text: Buffer, at: readonly number[]): Promise<Buffer[]> {
  const deflate = createDeflateRaw();
  const pieces: Buffer[] = [];
  for (let i = 0; i + 1 < at.length; i += 1) {
    const out: Buffer[] = [];
    const take = (chunk: Buffer) => void out.push(chunk);
    deflate.on('data', take).write(text.subarray(at[i], at[i + 1]));
    await new Promise<void>((resolve) => deflate.flush(constants.Z_SYNC_FLUSH, resolve));
    deflate.off('data', take);
    pieces.push(Buffer.concat(out));
  }
  deflate.destroy();
  return pieces;
}

describe('LayerCache', () => {
  it('reports a miss once, decodes, wakes and reads back', async () => {
    const cache = open();
    const misses: number[] = [];
    cache.onMiss((spans) => misses.push(...spans));
    const waits = Promise.all(Array.from({ length: 64 }, async (_, i) => cache.wait(29_900 + i, 200)));
    await expect.poll(() => misses).toEqual([0, 1]);
    expect(await cache.decode(member(1))).toBe(30_000);
    expect(await cache.decode(member(0))).toBe(30_000);
    await waits;
    expect(misses).toEqual([0, 1]);
    expect((await cache.read(29_900, 200)).equals(stream.subarray(29_900, 30_100))).toBe(true);
    await expect(cache.read(59_999, 2)).rejects.toMatchObject({ code: 'EAGAIN' });
    expect(cache.presentSpans).toBe(2);
    expect(cache.presentBytes).toBe(60_000);
    expect([0, 1, 2, 3].map((span) => cache.isPresent(span))).toEqual([true, true, false, false]);
  });

  it('tells of first touches, before the misses of the same reads', async () => {
    const cache = open();
    const told: string[] = [];
    const times: number[] = [];
    await cache.decode(member(1));
    const before = performance.now();
    // Of reads that came before there is a handler, too.
    await cache.read(starts[1]!, 10);
    cache.onMiss((spans) => told.push(...[...spans].map((span) => `miss ${span}`)));
    cache.onTouch((spans, at) => {
      told.push(...[...spans].map((span) => `touch ${span}`));
      times.push(...at);
    });
    const waits = [cache.wait(starts[1]!, 1), cache.wait(starts[2]! - 1, 2), cache.wait(0, 5), cache.wait(3, 5)];
    await expect.poll(() => told).toEqual(['touch 1', 'touch 2', 'touch 0', 'miss 2', 'miss 0']);
    expect(times).toEqual(times.toSorted((a, b) => a - b));
    expect(times[0]).toBeGreaterThan(before - 1);
    expect(times[2]).toBeLessThan(performance.now() + 1);
    await Promise.all([cache.decode(member(0)), cache.decode(member(2))]);
    await Promise.all(waits);
    await cache.wait(0, starts[3]!);
    expect(told).toHaveLength(5);
  });

  it('tells of reads that had to wait, and of no others', async () => {
    const cache = open();
    const stalls: ReadStall[] = [];
    cache.onStall((more) => stalls.push(...more));
    const startedAt = performance.now();
    const waits = [cache.wait(10, 40_000), cache.wait(starts[3]!, 7)];
    await delay(30);
    await cache.decode(member(0));
    await cache.decode(member(1));
    cache.fail(3, 'EHOSTUNREACH');
    await Promise.allSettled(waits);
    await cache.wait(0, starts[2]!);
    await cache.read(0, starts[2]!);
    await expect.poll(() => stalls.length).toBe(2);
    expect(stalls).toMatchObject([
      { offset: 10, length: 40_000, error: undefined },
      { offset: starts[3]!, length: 7, error: 'EHOSTUNREACH' },
    ]);
    for (const stall of stalls) {
      expect(stall.startedAt).toBeGreaterThan(startedAt - 1);
      expect(stall.endedAt - stall.startedAt).toBeGreaterThan(25);
      expect(stall.endedAt).toBeLessThan(performance.now() + 1);
    }
    const last = cache.wait(starts[2]!, 1);
    await cache.close();
    await expect(last).rejects.toMatchObject({ code: 'EIO' });
    await expect.poll(() => stalls.at(-1)).toMatchObject({ offset: starts[2]!, length: 1, error: 'EIO' });
  });

  it('becomes complete and stays so', async () => {
    const cache = open();
    await expect(cache.markComplete()).rejects.toMatchObject({ code: 'ENODATA' });
    for (const backend of ['zlib', 'isal'] as const) {
      setInflateBackend(backend);
      await Promise.all([0, 1, 2, 3].map(async (span) => cache.decode(member(span))));
    }
    expect(await cache.digest()).toEqual(createHash('sha256').update(stream).digest());
    await cache.markComplete();
    await cache.close();
    rmSync(join(root, 'run'), { recursive: true });
    const again = open();
    expect(again.complete).toBe(true);
    expect((await again.read(0, stream.length)).equals(stream)).toBe(true);
    expect(await again.verify(3)).toBe(true);
  });

  it('says what is wrong with a span', async () => {
    const cache = open();
    const wrong = Buffer.from(member(0).data);
    wrong[100]! ^= 1;
    await expect(cache.decode(member(0, { data: wrong }))).rejects.toMatchObject({ code: 'ERR_SPAN_DIGEST' });
    const noDigest = { sha256: undefined };
    await expect(cache.decode(member(0, { data: wrong, ...noDigest }))).rejects.toMatchObject({
      code: 'ERR_SPAN_INFLATE',
    });
    await expect(cache.decode(member(0, { data: member(3).data, ...noDigest }))).resolves.toBe(30_000);
    await expect(cache.decode(member(1, { data: gzipSync('x'), ...noDigest }))).rejects.toMatchObject({
      code: 'ERR_SPAN_LENGTH',
    });
    expect(cache.isPresent(1)).toBe(false);
  });

  it('decodes whole zstd frames', async () => {
    const cache = open();
    const bytes = stream.subarray(starts[2], starts[3]);
    const data = Buffer.alloc(40_000);
    const first = binding.compress(data, bytes.subarray(0, 10_000), 3);
    const size = first + binding.compress(data.subarray(first), bytes.subarray(10_000), 3);
    const frames = (end: number): DecodeRequest =>
      member(2, { decoder: 'zstd-frame', data: data.subarray(0, end), sha256: undefined });
    await expect(cache.decode(frames(size - 1))).rejects.toMatchObject({ code: 'ERR_SPAN_INFLATE' });
    await expect(cache.decode(frames(first))).rejects.toMatchObject({ code: 'ERR_SPAN_LENGTH' });
    expect(cache.isPresent(2)).toBe(false);
    expect(await cache.decode(frames(size))).toBe(30_000);
    expect((await cache.read(starts[2]!, 30_000)).equals(bytes)).toBe(true);
  });

  describe('decodes spans that follow one another', () => {
    // Each refers to those before it.
    const phrase = randomBytes(20_000);
    const text = Buffer.concat(Array.from({ length: 6 }, () => phrase)).subarray(0, stream.length);
    let pieces: Buffer[];

    beforeEach(async () => {
      pieces = await checkpoints(text, starts);
    });

    function runOf(first: number, bytes: readonly Buffer[], changes: Partial<DecodeRun> = {}): DecodeRun {
      const ends = bytes.reduce<number[]>((all, piece) => [...all, (all.at(-1) ?? 0) + piece.length], []);
      return {
        first,
        decoder: 'gzip-checkpoint',
        bits: new Uint8Array(bytes.length),
        bounds: Uint32Array.from(ends.flatMap((end, i) => [end - (bytes[i]?.length ?? 0), end])),
        data: Buffer.concat(bytes),
        window: first === 0 ? undefined : text.subarray(0, starts[first]).subarray(-32_768),
        sha256: Buffer.concat(bytes.map((piece) => createHash('sha256').update(piece).digest())),
        openEnded: false,
        ...changes,
      };
    }

    it.each(['isal', 'zlib'] as const)('each from the stream that the one before gave: %s', async (backend) => {
      setInflateBackend(backend);
      const cache = open();
      try {
        const first = await cache.decodeRun(runOf(0, pieces.slice(0, 2)));
        expect(first).toMatchObject({ present: 2, bytes: 60_000 });
        expect(first.error).toBeUndefined();
        expect(Buffer.from(first.tail ?? [])).toEqual(text.subarray(60_000 - 32_768, 60_000));
        const second = await cache.decodeRun(runOf(2, pieces.slice(2), { window: first.tail }));
        expect(second).toMatchObject({ present: 2, bytes: 60_000 });
        expect((await cache.read(0, text.length)).equals(text)).toBe(true);
      } finally {
        setInflateBackend('isal');
      }
    });

    it('up to one that is wrong, and says what is wrong with it', async () => {
      const cache = open();
      const wrong = Buffer.from(pieces[2] ?? []);
      wrong[40] = ~(wrong[40] ?? 0);
      const { sha256 } = runOf(0, pieces);
      const result = await cache.decodeRun(runOf(0, [...pieces.slice(0, 2), wrong, ...pieces.slice(3)], { sha256 }));
      expect([result.present, result.tail]).toEqual([2, undefined]);
      expect(result.error).toMatchObject({ code: 'ERR_SPAN_DIGEST', message: expect.stringContaining('span 2') });
      expect([0, 1, 2, 3].map((span) => cache.isPresent(span))).toEqual([true, true, false, false]);
    });

    it('up to one that is here already, behind which nothing is known of the stream', async () => {
      const cache = open();
      await cache.decodeRun(runOf(1, pieces.slice(1, 2)));
      const result = await cache.decodeRun(runOf(0, pieces));
      expect([result.present, result.error, result.tail]).toEqual([2, undefined, undefined]);
      expect(cache.isPresent(2)).toBe(false);
    });

    it('from what is here, where that is right, which is no read of it', async () => {
      const cache = open();
      const touched: number[] = [];
      cache.onTouch((spans) => touched.push(...spans));
      const cached = { window: 'cached' } as const;
      const lone = await cache.decodeRun(runOf(2, pieces.slice(2, 3), cached));
      expect(lone).toMatchObject({ present: 0, error: { code: 'ENODATA' } });
      // A span shorter than a window is not enough.
      await cache.decodeRun(runOf(1, pieces.slice(1, 2)));
      expect((await cache.decodeRun(runOf(2, pieces.slice(2, 3), cached))).error).toMatchObject({ code: 'ENODATA' });
      await cache.decodeRun(runOf(0, pieces.slice(0, 1)));
      const data = openSync(join(options.dir, 'data'), 'r+');
      writeSync(data, Buffer.from([text[40_000] === 0 ? 1 : 0]), 0, 1, 40_000);
      expect((await cache.decodeRun(runOf(2, pieces.slice(2, 3), cached))).error).toMatchObject({ code: 'ENODATA' });
      expect(cache.isPresent(1)).toBe(false);
      closeSync(data);
      await cache.decodeRun(runOf(1, pieces.slice(1, 2), cached));
      expect((await cache.decodeRun(runOf(2, pieces.slice(2), cached))).present).toBe(2);
      await delay(20);
      expect(touched).toEqual([]);
      expect((await cache.read(0, text.length)).equals(text)).toBe(true);
      await expect.poll(() => touched).toEqual([0, 1, 2, 3]);
    });

    it('and refuses bounds that are none', async () => {
      const cache = open();
      const bad = async (changes: Partial<DecodeRun>) => await cache.decodeRun(runOf(1, pieces.slice(1, 3), changes));
      const size = (pieces[1]?.length ?? 0) + (pieces[2]?.length ?? 0);
      await expect(bad({ bounds: Uint32Array.of(0, 10) })).rejects.toThrow(RangeError);
      await expect(bad({ bounds: Uint32Array.of(0, 10, 10, size + 1) })).rejects.toThrow(RangeError);
      await expect(bad({ bounds: Uint32Array.of(0, 10, 20, 19) })).rejects.toThrow(RangeError);
      await expect(bad({ bits: Uint8Array.of(0, 8) })).rejects.toThrow(RangeError);
      await expect(bad({ sha256: Buffer.alloc(32) })).rejects.toThrow(RangeError);
      await expect(bad({ first: 3 })).rejects.toThrow(RangeError);
      await expect(bad({ bits: new Uint8Array(0), bounds: new Uint32Array(0) })).rejects.toThrow(RangeError);
      expect(cache.presentSpans).toBe(0);
    });
  });

  it('fails the waiters of a span and asks again', async () => {
    const cache = open();
    let asked = 0;
    cache.onMiss(() => asked++);
    const wait = cache.wait(0, 1);
    await expect.poll(() => asked).toBe(1);
    cache.fail(0, 'EHOSTUNREACH');
    await expect(wait).rejects.toMatchObject({ code: 'EHOSTUNREACH', syscall: 'wait' });
    const again = cache.wait(0, 1);
    await expect.poll(() => asked).toBe(2);
    await cache.close();
    await expect(again).rejects.toMatchObject({ code: 'EIO' });
  });

  it('adopts a stream that came whole', async () => {
    const path = join(root, 'data.tmp');
    writeFileSync(path, stream);
    const lazy = open();
    expect(await LayerCache.adopt(options, path, { complete: true })).toBe(false);
    await lazy.close();
    expect(await LayerCache.adopt(options, path, { complete: true })).toBe(true);
    const cache = open();
    expect(cache.complete).toBe(true);
    expect((await cache.read(0, stream.length)).equals(stream)).toBe(true);
  });

  it('evicts spans, which are then missed again, unless it is pinned', async () => {
    const cache = open();
    for (const span of [0, 1, 2, 3]) await cache.decode(member(span));
    const [unpin, again] = [await cache.pin(), await open().pin()];
    expect(await cache.evict(Uint32Array.of(1))).toEqual({ evicted: 0, bytes: 0 });
    unpin();
    unpin();
    expect((await cache.evict(Uint32Array.of(1))).evicted).toBe(0);
    again();
    const { evicted, bytes } = await cache.evict(Uint32Array.of(1, 3));
    expect(evicted).toBe(2);
    expect(bytes % 4096).toBe(0);
    expect(bytes).toBeGreaterThan(40_000);
    const now = cache.coarseNow();
    const used = cache.lastUsed();
    expect([...used].map((second) => second > 0 && second <= now)).toEqual([true, false, true, false]);
    await expect(cache.read(starts[1]!, 1)).rejects.toMatchObject({ code: 'EAGAIN' });
    const misses: number[] = [];
    cache.onMiss((spans) => misses.push(...spans));
    const wait = cache.wait(0, stream.length);
    await expect.poll(() => misses).toEqual([1, 3]);
    await Promise.all([cache.decode(member(1)), cache.decode(member(3))]);
    await wait;
    expect((await cache.read(0, stream.length)).equals(stream)).toBe(true);
    await expect(cache.evict(Uint32Array.of(4))).rejects.toThrow(RangeError);
    await expect(cache.evict([1] as unknown as Uint32Array)).rejects.toThrow(TypeError);
    await cache.markComplete();
    expect((await cache.evict(Uint32Array.of(1))).evicted).toBe(0);
  });

  it('is removed only when nobody has it open', async () => {
    const cache = open();
    await cache.decode(member(0));
    expect(await LayerCache.tryRemove(options.dir, options.livePath)).toBe(false);
    await cache.close();
    expect(await LayerCache.tryRemove(options.dir, options.livePath)).toBe(true);
    expect(open().presentSpans).toBe(0);
  });

  it('refuses misuse', async () => {
    const cache = open();
    for (const span of [-1, 4, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 32, '1' as unknown as number]) {
      expect(() => cache.isPresent(span)).toThrow(RangeError);
      expect(() => cache.fail(span, 'EIO')).toThrow(RangeError);
      await expect(cache.decode(member(0, { span }))).rejects.toThrow(RangeError);
    }
    expect(() => cache.fail(0, 'EWHATEVER')).toThrow(TypeError);
    for (const offset of [-1, 0.5, Number.NaN, 2 ** 60, undefined as unknown as number]) {
      await expect(cache.wait(offset, 1)).rejects.toThrow(TypeError);
      await expect(cache.read(offset, 1)).rejects.toThrow(TypeError);
    }
    await expect(cache.read(stream.length, 1)).rejects.toThrow(RangeError);
    const bad: Partial<DecodeRequest>[] = [
      { bits: 8 },
      { bits: -1 },
      { data: 'text' as unknown as Uint8Array },
      { data: new Uint16Array(4) as unknown as Uint8Array },
      { sha256: Buffer.alloc(31) },
      { window: Buffer.alloc(32_769) },
      { decoder: 'lzma' as 'stored' },
      { openEnded: 1 as unknown as boolean },
    ];
    for (const changes of bad) await expect(cache.decode(member(0, changes))).rejects.toThrow();
    // Only the last span may be open-ended.
    await expect(cache.decode(member(0, { openEnded: true }))).rejects.toMatchObject({ code: 'EINVAL' });
    expect(cache.presentSpans).toBe(0);
    expect(() => open({ fingerprint: Buffer.alloc(31) })).toThrow(RangeError);
    expect(() => open({ spanStarts: Float64Array.of(0, 5, 3) })).toThrow(/EINVAL/);
    expect(() => open({ spanStarts: Float64Array.of(0, Number.NaN) })).toThrow(RangeError);
    expect(() => open({ dir: 'a\0b' })).toThrow();
    expect(() => open({ dir: '/dev/null/layer' })).toThrow();
  });

  it('is closed for good, and its work in flight ends first', async () => {
    const cache = open();
    const decoding = cache.decode(member(2));
    const [, closed] = await Promise.all([cache.close(), cache.close(), decoding]);
    expect(closed).toBeUndefined();
    expect(() => cache.isPresent(0)).toThrow(expect.objectContaining({ code: 'ERR_CLOSED' }));
    expect(() => cache.complete).toThrow(expect.objectContaining({ code: 'ERR_CLOSED' }));
    // A miss that was on its way is told late.
    cache.fail(0, 'EIO');
    await expect(cache.decode(member(0))).rejects.toMatchObject({ code: 'ERR_CLOSED' });
    await expect(cache.wait(0, 1)).rejects.toMatchObject({ code: 'ERR_CLOSED' });
  });
});

// What a script does with the bare addon, in a process or thread of its own.
const script = `
  const native = require(${JSON.stringify(addonPath)});
  const open = (name) => native.layerCacheOpen(root + '/' + name, root + '/live-' + name, 1 << 20,
    Float64Array.of(0, 1 << 20), new Uint8Array(32), false);
`;

describe('the addon in its environment', () => {
  it('does not keep a process alive that only listens for misses', async () => {
    const code = `const root = ${JSON.stringify(root)}; ${script} const cache = open('a');
      for (const on of ['Miss', 'Touch', 'Stall']) native['layerCacheOn' + on](cache, () => {}); console.log('end')`;
    const { stdout } = await promisify(execFile)(process.execPath, ['-e', code], { timeout: 20_000 });
    expect(stdout).toBe('end\n');
  });

  it('keeps it alive for an answer, and survives exit in the middle of work', async () => {
    const work = `const cache = open('b'); const data = Buffer.alloc(1 << 20, 1);
      const done = native.layerCacheDecode(cache, 0, 'stored', Uint8Array.of(0), Uint32Array.of(0, 1 << 20), data, undefined, undefined, false, false);`;
    const code = `const root = ${JSON.stringify(root)}; ${script} ${work} done.then(({ bytes }) => console.log(bytes));`;
    const { stdout } = await promisify(execFile)(process.execPath, ['-e', code], { timeout: 20_000 });
    expect(stdout).toBe(`${1 << 20}\n`);
    const exits = `const root = ${JSON.stringify(root)}; ${script}
      for (let i = 0; i < 50; i++) { ${work} native.layerCacheWait(open('c' + i), 0, 1).catch(() => {}); } process.exit(7)`;
    await expect(promisify(execFile)(process.execPath, ['-e', exits], { timeout: 20_000 })).rejects.toMatchObject({
      code: 7,
    });
  });

  it('survives garbage collection and the end of worker threads', async () => {
    const code = `const root = require('node:worker_threads').workerData; ${script}
      const indexer = native.streamIndexerOpen('gzip', 1000, -1, 0);
      native.streamIndexerPush(indexer, require('node:zlib').gzipSync(Buffer.alloc(1 << 24)));
      const { chunk } = native.streamIndexerChunk(1 << 20);
      for (let i = 0; i < 20; i++) native.streamIndexerPull(indexer, chunk).catch(() => {});
      for (let i = 0; i < 20; i++) {
        const cache = open('w' + i);
        native.layerCacheOnMiss(cache, () => {});
        native.layerCacheWait(cache, 0, 1).catch(() => {});
        const data = Buffer.alloc(1 << 20, 1);
        native.layerCacheDecode(cache, 0, 'stored', Uint8Array.of(0), Uint32Array.of(0, 1 << 20), data, undefined, undefined, false, true).catch(() => {});
        if (i === 10) global.gc?.();
      }
      if (Math.random() < 0.5) process.exit(0);`;
    for (let i = 0; i < 6; i++) {
      const worker = new Worker(code, { eval: true, workerData: root });
      if (i % 3 === 2) setTimeout(() => void worker.terminate(), 20 * i);
      await new Promise<void>((resolve, reject) => worker.once('exit', () => resolve()).once('error', reject));
    }
  });

  it('knows its own objects', async () => {
    const code = `const root = ${JSON.stringify(root)}; ${script}
      const indexer = native.streamIndexerOpen('gzip', 1000, -1, 0);
      for (const wrong of [indexer, {}, null, undefined, 1, new Proxy({}, {})]) {
        try { native.layerCacheStat(wrong); console.log('taken'); } catch (error) { if (!(error instanceof TypeError)) throw error; }
      }
      native.streamIndexerClose(indexer); native.streamIndexerClose(indexer); console.log('end');`;
    const { stdout } = await promisify(execFile)(process.execPath, ['-e', code], { timeout: 20_000 });
    expect(stdout).toBe('end\n');
  });
});
