// The bytes of a peel index as its writers make them, read by its readers: with nothing else every span of a layer decodes by itself to
// what gunzip has at its place, whoever made the gzip.
import { createHash } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { constants, gzipSync } from 'node:zlib';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { peelFromBuild } from '../../src/image/peel-from-build.ts';
import { buildLayerIndex } from '../../src/index/builder.ts';
import type { SpanTable } from '../../src/index/layer-index.ts';
import { peelTableType, peelWindowsType } from '../../src/index/peel-names.ts';
import { readPeelTable } from '../../src/index/peel-table-reader.ts';
import { decodeWindow } from '../../src/index/peel-window.ts';
import { windowSize } from '../../src/index/span-columns.ts';
import { rounds } from '../support/fixtures.ts';
import { backReferring, goGzip, oneBlockLayer, umociGzip } from '../support/gzip-blobs.ts';
import { LayerLab } from '../support/layer-lab.ts';
import { offering } from '../support/peel-layer.ts';
import { content } from '../support/registry-content.ts';
import { run, runOk } from '../support/run.ts';
import { tarOf } from '../support/tar-members.ts';
import { keptTempDir, tempDir } from '../support/tmp.ts';
import { chunked, expectEverySpan, filter, noise, sha256, withWindows } from './layers.ts';

const fineSpanSize = 32 << 10;
const scratch = keptTempDir();
let tar: Buffer;

/** 1.3 MB: text of programs, then what does not compress, a run of one byte, and text again. */
beforeAll(async () => {
  const modules = new URL('../../node_modules/', import.meta.url).pathname;
  const text = await filter(
    'tar',
    ['--sort=name', '-cf', '-', '-C', path.join(modules, 'undici'), 'lib'],
    Buffer.alloc(0),
  );
  tar = tarOf(
    { path: 'text', data: text.subarray(0, 600_000) },
    { path: 'noise', data: noise(150_000) },
    { path: 'zeros', data: Buffer.alloc(300_000) },
    { path: 'more', data: text.subarray(600_000, 850_000) },
  );
  await writeFile(path.join(scratch.path, 'layer.tar'), tar);
});

afterAll(() => scratch[Symbol.dispose]());

interface Written {
  readonly table: Buffer;
  readonly windows: Buffer;
  /** What a reader has of the two. */
  readonly spans: SpanTable;
  readonly windowOf: (span: number) => Uint8Array | undefined;
}

/** Errors: when the layer has no peel index. */
async function written(blob: Uint8Array, plain: Uint8Array, spanSize = fineSpanSize): Promise<Written> {
  const build = await buildLayerIndex(chunked(blob), { fineSpanSize: spanSize, diffId: sha256(plain) });
  const made = peelFromBuild(build);
  if (made.table === undefined) throw new Error(made.skipped);
  const [table, windows] = [Buffer.from(made.table), Buffer.from(made.windows ?? [])];
  const read = readPeelTable(table);
  expect(read).toMatchObject({ layer: sha256(blob), diffId: sha256(plain), windows: { size: windows.length } });
  const { offsets, lengths, sha256: digests } = read.windows;
  const windowOf = (span: number) => {
    const [at, length] = [offsets[span] as number, lengths[span] as number];
    if (length === 0) return undefined;
    const frame = windows.subarray(at, at + length);
    const digest = createHash('sha256').update(frame).digest();
    expect(digest.equals(digests.subarray(32 * span, 32 * span + 32)), `frame of span ${span}`).toBe(true);
    return decodeWindow(frame);
  };
  return { table, windows, spans: withWindows(read.spans, windowOf), windowOf };
}

async function members(plain: Buffer, size: (i: number) => number): Promise<Buffer> {
  const parts: Buffer[] = [];
  for (let at = 0, i = 0; at < plain.length; at += size(i++)) {
    parts.push(gzipSync(plain.subarray(at, at + size(i)), { level: 1 + (i % 9) }));
  }
  return Buffer.concat(parts);
}

const go = (level: number, flush: 'Z_BLOCK' | 'Z_SYNC_FLUSH' = 'Z_BLOCK', pieces = 65_535) =>
  goGzip(tar, { level, pieces, flush });

type Kind = readonly [name: string, make: () => Buffer | Promise<Buffer>, windows: 'windows' | 'no windows'];

const kinds: readonly Kind[] = [
  ...Array.from(
    { length: 9 },
    (_, i): Kind => [`zlib at level ${i + 1}`, () => gzipSync(tar, { level: i + 1 }), 'windows'],
  ),
  ['gzip -n', () => filter('gzip', ['-n'], tar), 'windows'],
  ['gzip -n --rsyncable', () => filter('gzip', ['-n', '--rsyncable'], tar), 'windows'],
  ['pigz', () => filter('pigz', ['-c', '-p', '2'], tar), 'windows'],
  ['pigz in independent blocks', () => filter('pigz', ['-c', '-i', '-p', '2'], tar), 'windows'],
  ['igzip', () => filter('igzip', ['-c'], tar), 'windows'],
  ['igzip -3', () => filter('igzip', ['-c', '-3'], tar), 'windows'],
  ['umoci', () => umociGzip(path.join(scratch.path, 'layer.tar'), tempDir()), 'windows'],
  ['blocks as of Go at level 1', () => go(1), 'windows'],
  ['blocks as of Go at level 6', () => go(6, 'Z_BLOCK', tar.length), 'windows'],
  ['blocks as of Go with flushes', () => go(6, 'Z_SYNC_FLUSH', 40_000), 'windows'],
  ['stored blocks', () => gzipSync(tar, { level: 0 }), 'no windows'],
  ['fixed codes', () => gzipSync(tar, { strategy: constants.Z_FIXED }), 'windows'],
  ['no matches', () => gzipSync(tar, { strategy: constants.Z_HUFFMAN_ONLY }), 'no windows'],
  ['members of up to the span size', () => members(tar, (i) => fineSpanSize - (i % 5) * 5_000), 'no windows'],
  ['members of all sizes', () => members(tar, (i) => 1_000 + ((i * 77_777) % 200_000)), 'windows'],
  [
    'empty members and padding',
    async () =>
      Buffer.concat([
        gzipSync(''),
        await members(tar, (i) => (i === 0 ? 300_000 : tar.length)),
        gzipSync(''),
        Buffer.alloc(1000),
      ]),
    'windows',
  ],
];

describe('every span by a peel index of its own bytes', () => {
  it.each(kinds)('is what gunzip has: %s', async (name, make, needs) => {
    const blob = await make();
    const plain = await gunzip(blob);
    expect(plain.equals(tar)).toBe(true);
    const { spans, windows } = await written(blob, plain);
    expect(spans.span(0).decoder).toBe('gzip-checkpoint');
    // igzip makes few blocks, and large ones.
    expect(spans.count).toBeGreaterThan(name.startsWith('igzip') ? 1 : 8);
    expect(windows.length > 0).toBe(needs === 'windows');
    await expectEverySpan({ spans }, blob, plain);
  });
});

/** As the program does it; what it says of zeros behind the last member is a warning. */
async function gunzip(blob: Uint8Array): Promise<Buffer> {
  const { code, stdout, err } = await run('gzip', ['-dc'], { input: blob });
  if (code !== 0 && !(code === 2 && err.includes('trailing zero bytes'))) throw new Error(err);
  return stdout;
}

describe('one block of more than 64 MiB', () => {
  it('is one span and is decoded in less than 8 MiB', async () => {
    const dir = tempDir();
    const files: string[] = [];
    const expected: string[] = [];
    // The first one starts the threads and loads the code.
    for (const size of [1 << 20, 64 << 20]) {
      const layer = oneBlockLayer(size);
      const plain = await gunzip(layer.blob);
      expect(plain.equals(layer.tar)).toBe(true);
      const { spans, table, windows } = await written(layer.blob, plain, 256 << 10);
      expect([spans.count, windows.length]).toEqual([1, 0]);
      const names = ['blob', 'table'].map((name) => path.join(dir, `${name}-${size}`));
      await Promise.all([layer.blob, table].map((bytes, i) => writeFile(names[i] as string, bytes)));
      files.push(...names);
      expected.push(sha256(plain).slice(7));
    }
    const worker = new URL('../fixtures/decode-worker.mjs', import.meta.url).pathname;
    const lines = (await runOk(process.execPath, ['--expose-gc', worker, dir, ...files])).trim().split('\n');
    const decoded = lines.map((line) => JSON.parse(line));
    const each = decoded.length / expected.length;
    expect(decoded.map(({ digest }) => digest)).toEqual(expected.flatMap((digest) => Array(each).fill(digest)));
    for (const { backend, before, most } of decoded) {
      expect(most, backend).toBeGreaterThanOrEqual(before);
      expect(most - before, backend).toBeLessThan(8 << 20);
    }
  });
});

const streams = fc.record({
  size: fc.integer({ min: 40_000, max: 150_000 }),
  seed: fc.nat(),
  level: fc.integer({ min: 1, max: 9 }),
  memLevel: fc.integer({ min: 1, max: 9 }),
  windowBits: fc.integer({ min: 9, max: 15 }),
  strategy: fc.constantFrom(constants.Z_DEFAULT_STRATEGY, constants.Z_FILTERED, constants.Z_FIXED),
  spanSize: fc.integer({ min: 4096, max: 20_000 }),
});

describe('a sparse window', () => {
  it('decodes its span as the full one does, and as any that has its bytes', async () => {
    let sparser = 0;
    await fc.assert(
      fc.asyncProperty(streams, async ({ size, seed, spanSize, ...options }) => {
        const plain = tarOf({ path: 'f', data: backReferring(size, seed) });
        const blob = gzipSync(plain, options);
        const { spans, windowOf } = await written(blob, plain, spanSize);
        const sparse = Array.from({ length: spans.count }, (_, i) => windowOf(i));
        const full = sparse.map((_, i) => fullWindow(plain, spans.span(i).streamStart));
        // What differs from the full one is nothing that the span needs.
        const other = full.map((window, i) => window.map((byte, at) => (byte === sparse[i]?.[at] ? byte : ~byte)));
        sparser += full.filter(
          (window, i) => sparse[i] === undefined || Buffer.compare(window, sparse[i]) !== 0,
        ).length;
        for (const windows of [sparse, full, other]) {
          await expectEverySpan({ spans: withWindows(spans, (i) => windows[i]) }, blob, plain);
        }
      }),
      { numRuns: rounds(60, 5, 0.2) },
    );
    expect(sparser).toBeGreaterThan(20);
  });
});

function fullWindow(plain: Uint8Array, streamStart: number): Uint8Array {
  const known = plain.subarray(Math.max(0, streamStart - windowSize), streamStart);
  const window = new Uint8Array(windowSize);
  window.set(known, windowSize - known.length);
  return window;
}

describe('a layer of the store, by a peel index', () => {
  it('has every span as gunzip has it', async () => {
    const blob = await filter('gzip', ['-n'], tar);
    const plain = await gunzip(blob);
    const { table, windows, spans } = await written(blob, plain);
    const lab = await LayerLab.start();
    const [tableBlob, windowsBlob] = [content(table, peelTableType), content(windows, peelWindowsType)];
    await lab.pushBlob(windowsBlob);
    const mediaType = 'application/vnd.oci.image.layer.v1.tar+gzip';
    const descriptor = { mediaType, digest: sha256(blob), size: blob.length };
    const index = {
      format: 'peel',
      digest: sha256(Buffer.from('manifest')),
      source: 'lab',
      table: tableBlob.descriptor,
      windows: windowsBlob.descriptor,
      load: async () => tableBlob.bytes,
      findWindows: async () => undefined,
    } as const;
    const made = { tar, blob, descriptor, diffId: sha256(tar) };
    const layer = await lab.openBy(made, offering(index), { indexRequired: true });
    expect(layer.row.indexFormat).toBe('peel');
    for (let i = spans.count - 1; i >= 0; i--) {
      const { streamStart, streamEnd } = spans.span(i);
      const read = await layer.read(streamStart, streamEnd - streamStart);
      expect(read.equals(plain.subarray(streamStart, streamEnd)), `span ${i}`).toBe(true);
    }
    expect(lab.front.seen(windowsBlob.descriptor.digest).length).toBeGreaterThan(0);
    await layer.fillCache({ signal: AbortSignal.timeout(20_000) });
    expect(layer.complete).toBe(true);
  });
});
