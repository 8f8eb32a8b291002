import { createHash, randomBytes } from 'node:crypto';
import { closeSync, fstatSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { decodeWindow } from '../../src/index/peel-window.ts';
import { LayerCache } from '../../src/native/layer-cache.ts';
import { type StreamIndex, StreamIndexer } from '../../src/native/stream-indexer.ts';

const sha256 = (bytes: Uint8Array): Buffer => createHash('sha256').update(bytes).digest();
const words = Array.from({ length: 5000 }, () => randomBytes(3).toString('hex'));
const text = Buffer.from(
  Array.from({ length: 300_000 }, (_, i) => words[(i * 7919 + (i >> 3)) % words.length]).join(' '),
);
const blob = gzipSync(text, { level: 6 });

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'peel-indexer-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

interface Passed {
  readonly index: StreamIndex;
  readonly stream: Buffer;
}

interface Ways {
  readonly dataFd?: number;
  readonly fineSpanSize?: number;
}

async function pass(bytes: Uint8Array, piece: number, toCallback: boolean, ways: Ways = {}): Promise<Passed> {
  const indexer = new StreamIndexer({ format: 'gzip', spanSize: 100_000, dataFd: -1, ...ways });
  const parts: Buffer[] = [];
  try {
    for (let at = 0; at < bytes.length; at += piece) {
      // The caller's memory is its own again at once.
      const input = Buffer.from(bytes.subarray(at, at + piece));
      const pushed = toCallback ? indexer.push(input, (part) => parts.push(Buffer.from(part))) : indexer.push(input);
      input.fill(0);
      for (const part of await pushed) parts.push(Buffer.from(part));
    }
    return { index: await indexer.finish(), stream: Buffer.concat(parts) };
  } finally {
    indexer.close();
  }
}

describe('StreamIndexer', () => {
  it('gives the stream and an index from which every span decodes', async () => {
    for (const [piece, toCallback] of [
      [1_000, false],
      [65_536, true],
      [1 << 30, false],
      [1 << 30, true],
    ] as const) {
      const fd = openSync(join(root, 'data'), 'w');
      const { index, stream } = await pass(blob, piece, toCallback, { dataFd: fd });
      closeSync(fd);
      expect(stream.equals(text)).toBe(true);
      expect(readFileSync(join(root, 'data')).equals(text)).toBe(true);
      expect(index.streamSize).toBe(text.length);
      expect(index.streamSha256).toEqual(sha256(text));
      expect(index.blobSize).toBe(blob.length);
      expect(index.blobSha256).toEqual(sha256(blob));
      const count = index.in.length;
      expect(count).toBeGreaterThan(5);
      const cache = LayerCache.open({
        dir: join(root, 'layer', String(piece), String(toCallback)),
        livePath: join(root, `live-${piece}-${toCallback}`),
        streamSize: text.length,
        spanStarts: Float64Array.of(...index.out, text.length),
        fingerprint: Buffer.alloc(32),
      });
      for (let span = 0; span < count; span++) {
        const last = span + 1 === count;
        const bits = index.bits[span]!;
        const data = blob.subarray(index.in[span]! - (bits ? 1 : 0), last ? blob.length : index.in[span + 1]);
        expect(index.spanSha256.subarray(span * 32, span * 32 + 32)).toEqual(sha256(data));
        await cache.decode({
          span,
          decoder: 'gzip-checkpoint',
          bits,
          data,
          window: index.windows.subarray(span * 32_768, (span + 1) * 32_768),
          sha256: index.spanSha256.subarray(span * 32, span * 32 + 32),
          openEnded: last,
        });
      }
      expect(await cache.digest()).toEqual(sha256(text));
      await cache.close();
    }
  });

  it('makes a finer table, whose spans decode with sparse windows', async () => {
    const plain = (await pass(blob, 65_536, true)).index;
    expect(plain.fine).toBeUndefined();
    const { index } = await pass(blob, 65_536, true, { fineSpanSize: 20_000 });
    expect({ ...index, fine: undefined }).toEqual(plain);
    const fine = index.fine!;
    const count = fine.in.length;
    expect(count).toBeGreaterThan(plain.in.length);
    expect([fine.out.length, fine.bits.length, fine.frameLengths.length]).toEqual([count, count, count]);
    expect([fine.spanSha256.length, fine.frameSha256.length]).toEqual([count * 32, count * 32]);
    const cache = LayerCache.open({
      dir: join(root, 'layer'),
      livePath: join(root, 'live'),
      streamSize: text.length,
      spanStarts: Float64Array.of(...fine.out, text.length),
      fingerprint: Buffer.alloc(32),
    });
    let at = 0;
    for (let span = 0; span < count; span++) {
      const last = span + 1 === count;
      const bits = fine.bits[span]!;
      const frame = fine.frames.subarray(at, (at += fine.frameLengths[span]!));
      const window = frame.length === 0 ? undefined : decodeWindow(frame);
      const frameSha256 = window === undefined ? Buffer.alloc(32) : sha256(frame);
      expect(fine.frameSha256.subarray(span * 32, span * 32 + 32)).toEqual(frameSha256);
      await cache.decode({
        span,
        decoder: 'gzip-checkpoint',
        bits,
        data: blob.subarray(fine.in[span]! - (bits ? 1 : 0), last ? blob.length : fine.in[span + 1]),
        window,
        sha256: fine.spanSha256.subarray(span * 32, span * 32 + 32),
        openEnded: last,
      });
    }
    expect(at).toBe(fine.frames.length);
    expect(fine.frameLengths[0]).toBe(0);
    expect(fine.frames.length).toBeGreaterThan(0);
    expect(await cache.digest()).toEqual(sha256(text));
    await cache.close();
  });

  it('keeps memory bounded with a consumer, however well the blob is compressed', async () => {
    const bomb = gzipSync(Buffer.alloc(200 << 20));
    const before = process.memoryUsage.rss();
    const indexer = new StreamIndexer({ format: 'gzip', spanSize: 1 << 20, dataFd: -1, fineSpanSize: 256 << 10 });
    let size = 0;
    let most = 0;
    await indexer.push(bomb, (bytes) => {
      size += bytes.length;
      most = Math.max(most, process.memoryUsage.rss());
    });
    const index = await indexer.finish();
    indexer.close();
    expect(size).toBe(200 << 20);
    expect(index.streamSize).toBe(200 << 20);
    expect(most - before).toBeLessThan(40 << 20);
  });

  it('tells how much of the stream is in the file', async () => {
    const fd = openSync(join(root, 'data'), 'w');
    const indexer = new StreamIndexer({ format: 'gzip', spanSize: 100_000, dataFd: fd });
    let last = 0;
    for (let at = 0; at < blob.length; at += 50_000) {
      await indexer.push(blob.subarray(at, at + 50_000), () => {
        const { written } = indexer;
        expect(written).toBeGreaterThanOrEqual(last);
        expect(fstatSync(fd).size).toBeGreaterThanOrEqual(written);
        last = written;
      });
    }
    expect(last).toBeGreaterThan(0);
    await indexer.finish();
    expect(indexer.written).toBe(text.length);
    indexer.close();
    closeSync(fd);
    expect(() => indexer.written).toThrow('closed');
  });

  it('indexes a stored stream', async () => {
    const indexer = new StreamIndexer({ format: 'stored', spanSize: 1000, dataFd: -1, fineSpanSize: 4096 });
    const parts = await indexer.push(text.subarray(0, 2500));
    parts.push(...(await indexer.push(text.subarray(2500, 5000))));
    expect(Buffer.concat(parts).equals(text.subarray(0, 5000))).toBe(true);
    const index = await indexer.finish();
    expect([...index.in]).toEqual([0, 1000, 2000, 3000, 4000]);
    expect([...index.out]).toEqual([0, 1000, 2000, 3000, 4000]);
    expect(index.windows.length).toBe(0);
    expect(index.streamSha256).toEqual(sha256(text.subarray(0, 5000)));
    expect(index.fine).toEqual({
      in: Float64Array.of(0, 4096),
      out: Float64Array.of(0, 4096),
      bits: new Uint8Array(2),
      spanSha256: Buffer.concat([sha256(text.subarray(0, 4096)), sha256(text.subarray(4096, 5000))]),
      frames: Buffer.alloc(0),
      frameLengths: new Uint32Array(2),
      frameSha256: Buffer.alloc(64),
    });
    indexer.close();
  });

  it('says what is wrong with a blob', async () => {
    await expect(pass(blob.subarray(0, -1), 1000, false)).rejects.toMatchObject({ code: 'ERR_INDEX_TRUNCATED' });
    await expect(pass(text, 1000, false)).rejects.toMatchObject({ code: 'ERR_INDEX_INFLATE' });
    const garbage = Buffer.concat([blob, Buffer.from('x')]);
    await expect(pass(garbage, 1 << 20, true)).rejects.toMatchObject({ code: 'ERR_INDEX_TRAILING' });
    const fd = openSync(join(root, 'data'), 'w');
    closeSync(fd);
    const full = openSync('/dev/full', 'w');
    await expect(pass(blob, 1000, false, { dataFd: full })).rejects.toMatchObject({ code: 'ENOSPC' });
    closeSync(full);
  });

  it('refuses misuse', async () => {
    for (const spanSize of [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(() => new StreamIndexer({ format: 'gzip', spanSize, dataFd: -1 })).toThrow(RangeError);
    }
    for (const fineSpanSize of [1, 4095, -1, 5000.5, Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(() => new StreamIndexer({ format: 'gzip', spanSize: 1, dataFd: -1, fineSpanSize })).toThrow(RangeError);
    }
    expect(() => new StreamIndexer({ format: 'gzip', spanSize: 1, dataFd: -2 })).toThrow(RangeError);
    expect(() => new StreamIndexer({ format: 'zip' as 'gzip', spanSize: 1, dataFd: -1 })).toThrow(TypeError);
    const indexer = new StreamIndexer({ format: 'gzip', spanSize: 1000, dataFd: -1 });
    await expect(indexer.push('text' as unknown as Uint8Array)).rejects.toThrow(TypeError);
    const first = indexer.push(blob);
    await expect(indexer.push(blob)).rejects.toMatchObject({ code: 'ERR_BUSY' });
    indexer.close();
    await expect(first).rejects.toMatchObject({ code: 'ERR_CLOSED' });
    await expect(indexer.push(blob)).rejects.toMatchObject({ code: 'ERR_CLOSED' });
    await expect(indexer.finish()).rejects.toMatchObject({ code: 'ERR_CLOSED' });
    indexer.close();
  });
});
