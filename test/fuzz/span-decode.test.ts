// zTOCs, windows and compressed bytes as a broken or hostile producer would make them, all the way into the block cache: each
// is refused with a coded error, or gives what its table says. The zTOC's own digest is no help here, its maker chose it, and
// span digests do not cover windows; that the whole stream is right only the diffID can tell, and then it must.
import { createHash } from 'node:crypto';
import { rmSync } from 'node:fs';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildLayerIndex } from '../../src/index/builder.ts';
import { writeCheckpoints } from '../../src/index/checkpoints.ts';
import { IndexError } from '../../src/index/errors.ts';
import type { LayerBuild } from '../../src/index/layer-build.ts';
import type { Span, SpanTable } from '../../src/index/layer-index.ts';
import type { SpanColumns } from '../../src/index/span-columns.ts';
import { ztocFromBuild } from '../../src/index/ztoc-from-build.ts';
import { readZtoc } from '../../src/index/ztoc-reader.ts';
import { writeZtoc } from '../../src/index/ztoc-writer.ts';
import { LayerCache } from '../../src/native/layer-cache.ts';
import { StreamIndexer } from '../../src/native/stream-indexer.ts';
import { chunked, noise } from '../index/layers.ts';
import { interesting, mutate, random, type Random } from '../support/damage.ts';
import { rounds } from '../support/fixtures.ts';
import { archive } from '../support/tar-builder.ts';
import { keptTempDir } from '../support/tmp.ts';

const spanSize = 16 << 10;
const windowSize = 32 << 10;
const spanErrors = new Set(['ERR_SPAN_DIGEST', 'ERR_SPAN_INFLATE', 'ERR_SPAN_LENGTH']);
const fileErrors = new Set(['EFBIG', 'ENOSPC']);
/** Ten thousand zTOCs at scale 1; a tenth where nothing is said, since they are run over two builds of the addon. */
const times = (count: number): number => rounds(count, 10, 0.1);
/** Of a table with very many spans the first and the last are tried. */
const spansTried = 24;

const scratch = keptTempDir();
afterAll(() => scratch[Symbol.dispose]());

interface Truth {
  readonly name: string;
  readonly stream: Buffer;
  readonly blob: Buffer;
  readonly build: LayerBuild;
  readonly ztoc: Buffer;
}
const truths: Truth[] = [];

beforeAll(async () => {
  const text = Buffer.from(Array.from({ length: 4000 }, (_, i) => `line ${i} of ${i % 37}\n`).join(''));
  const stream = archive(
    { name: 'text', data: text },
    { name: 'noise', data: noise(70_000) },
    { name: 'zeros', data: Buffer.alloc(60_000) },
    { name: 'again', data: text.subarray(0, 50_000) },
  );
  // Short blocks: many places for a checkpoint.
  const gzip = (bytes: Buffer) => gzipSync(bytes, { memLevel: 4 });
  const cut = 90_001;
  for (const [name, blob] of [
    ['one gzip member', gzip(stream)],
    ['two gzip members', Buffer.concat([gzip(stream.subarray(0, cut)), gzip(stream.subarray(cut))])],
    ['no compression', stream],
  ] as const) {
    const build = await buildLayerIndex(chunked(blob), { spanSize });
    const { ztoc } = ztocFromBuild(build, { buildTool: 'peel test' });
    if (ztoc === undefined) throw new Error(`no zTOC for ${name}`);
    expect(build.spans.count).toBeGreaterThan(4);
    truths.push({ name, stream, blob, build, ztoc: Buffer.from(ztoc) });
  }
});

function pick<T>(list: ArrayLike<T>, below: Random): T {
  return list[below(list.length)] as T;
}

/** One column, size or digest of a gzip layer's table changed, everything around it well-formed. */
async function forge({ build }: Truth, below: Random): Promise<Uint8Array> {
  const { spans, blobSize, tarEnd, entries } = build;
  const list = Array.from({ length: spans.count }, (_, i) => spans.span(i));
  const columns = {
    spanSize,
    in: Float64Array.from(list, ({ blobStart, bits }) => blobStart + (bits > 0 ? 1 : 0)),
    out: Float64Array.from(list, ({ streamStart }) => streamStart),
    bits: Uint8Array.from(list, ({ bits }) => bits),
    windows: await windowsOf(spans),
  };
  const digests = Buffer.concat(list.map(({ sha256 }) => sha256 ?? Buffer.alloc(32)));
  const init = {
    buildTool: 'forged',
    compression: 'gzip',
    compressedSize: blobSize,
    uncompressedSize: tarEnd,
  } as const;
  const offsets = below(2) === 0 ? columns.in : columns.out;
  const i = below(spans.count);
  let sizes: { compressedSize?: number; uncompressedSize?: number } = {};
  switch (below(10)) {
    case 0:
      offsets[i] = (offsets[i] as number) + pick([-513, -2, -1, 1, 2, 512, 4096], below);
      break;
    case 1:
      offsets[i] = offsets[below(spans.count)] as number;
      break;
    case 2:
      offsets[i] = pick([...interesting, 2 ** 44, 2 ** 53 - 1], below);
      break;
    case 3:
      columns.bits[i] = below(9);
      break;
    case 4:
      columns.windows.fill(below(256), windowSize * i + below(windowSize), windowSize * (i + 1));
      break;
    case 5:
      columns.windows.copyWithin(windowSize * i, windowSize * below(spans.count), windowSize * spans.count);
      break;
    case 6:
      sizes = { uncompressedSize: tarEnd + pick([-tarEnd, -70_000, -1, 1, 512, 100_000, 2 ** 40], below) };
      break;
    case 7:
      sizes = { compressedSize: Math.max(0, blobSize + pick([-30_000, -1, 1, 100_000, 2 ** 31], below)) };
      break;
    case 8:
      digests.copyWithin(32 * i, 32 * below(spans.count), 32 * spans.count);
      break;
    default:
      columns.spanSize = pick(interesting, below);
  }
  const table = writeCheckpoints(columns);
  // The count without its records, and records without their count.
  if (below(8) === 0)
    new DataView(table.buffer).setInt32(0, pick([0, 1, -1, spans.count + 1, spans.count - 1], below), true);
  return writeZtoc({ ...init, ...sizes, entries, checkpoints: table, spanSha256: digests });
}

async function windowsOf(spans: SpanTable): Promise<Buffer> {
  const windows: Uint8Array[] = [];
  for (let i = 0; i < spans.count; i++) windows.push((await spans.window(i)) ?? Buffer.alloc(windowSize));
  return Buffer.concat(windows);
}

async function openCache(spans: SpanColumns, dir: string): Promise<LayerCache | undefined> {
  try {
    return LayerCache.open({
      dir: path.join(dir, 'layer'),
      livePath: path.join(dir, 'live'),
      streamSize: spans.streamSize,
      spanStarts: spans.count > 0 ? spans.streamStarts : new Float64Array(2),
      fingerprint: new Uint8Array(32),
    });
  } catch (error) {
    // A table that was accepted is one for the cache too; only the disk may object to its size.
    expect(fileErrors).toContain((error as { code?: string }).code);
    return undefined;
  }
}

/** What `work` rejects with must be one of `codes`. */
async function codeOf(work: Promise<unknown>, codes: ReadonlySet<string>): Promise<string | undefined> {
  try {
    await work;
    return undefined;
  } catch (error) {
    const code = (error as { code?: string }).code ?? String(error);
    expect(codes).toContain(code);
    return code;
  }
}

function sameBytes(a: Uint8Array | undefined, b: Uint8Array | undefined): boolean {
  return a === b || (a !== undefined && b !== undefined && Buffer.compare(a, b) === 0);
}

/** Whether the table says of the span what the true one says, so that its bytes have to come out right. */
async function isTrue(span: Span, window: Uint8Array | undefined, truth: Truth): Promise<boolean> {
  const { spans } = truth.build;
  if (span.index >= spans.count) return false;
  const right = spans.span(span.index);
  const fields = ['blobStart', 'blobEnd', 'streamStart', 'streamEnd', 'decoder', 'bits'] as const;
  return fields.every((field) => right[field] === span[field]) && sameBytes(window, await spans.window(span.index));
}

async function isWholeTruth(spans: SpanColumns, truth: Truth): Promise<boolean> {
  if (spans.count !== truth.build.spans.count) return false;
  for (let i = 0; i < spans.count; i++) {
    if (!(await isTrue(spans.span(i), await spans.window(i), truth))) return false;
  }
  return true;
}

/** Decodes every span of an accepted table from the true blob. Returns how many gave bytes. */
async function decodeAll(spans: SpanColumns, truth: Truth, withDigests: boolean): Promise<number> {
  const dir = path.join(scratch.path, 'round');
  const cache = await openCache(spans, dir);
  if (cache === undefined) return 0;
  try {
    const { count } = spans;
    const half = spansTried / 2;
    const tried = Array.from({ length: count }, (_, i) => i).filter((i) => i < half || i >= count - half);
    const decoded = await Promise.all(tried.map((i) => decodeSpan(cache, spans, i, truth, withDigests)));
    for (const i of tried) if (decoded[tried.indexOf(i)] === true) expect(await cache.verify(i)).toBe(true);
    if (count > 0 && cache.presentSpans === count) await checkWhole(cache, spans.streamSize, truth);
    return decoded.filter(Boolean).length;
  } finally {
    await cache.close();
    rmSync(dir, { recursive: true, force: true });
  }
}

async function decodeSpan(cache: LayerCache, spans: SpanColumns, i: number, truth: Truth, withDigests: boolean) {
  const span = spans.span(i);
  const window = await spans.window(i);
  const size = span.streamEnd - span.streamStart;
  const openEnded = spans.openEnded && i === spans.count - 1;
  const { decoder, bits } = span;
  if (decoder !== 'gzip-checkpoint' && decoder !== 'stored') throw new Error(`a zTOC with ${decoder} spans`);
  const data = truth.blob.subarray(span.blobStart, span.blobEnd);
  const sha256 = withDigests ? span.sha256 : undefined;
  const work = cache.decode({ span: i, decoder, bits, data, window, sha256, openEnded });
  const refused = await codeOf(work, spanErrors);
  expect(cache.isPresent(i)).toBe(refused === undefined);
  const right = await isTrue(span, window, truth);
  if (refused !== undefined) {
    if (right) expect(refused).toBe('ERR_SPAN_DIGEST');
    if (size > 0) await expect(cache.read(span.streamStart, size)).rejects.toMatchObject({ code: 'EAGAIN' });
    return false;
  }
  if (openEnded) expect(await work).toBe(size + cache.trailingZeros);
  else expect(await work).toBe(size);
  const bytes = await cache.read(span.streamStart, size);
  if (right) expect(sameBytes(bytes, truth.stream.subarray(span.streamStart, span.streamEnd))).toBe(true);
  return true;
}

/** Wrong bytes may lie in the cache, but the diffID must not call them right. */
async function checkWhole(cache: LayerCache, streamSize: number, truth: Truth): Promise<void> {
  const whole = Buffer.concat([await cache.read(0, streamSize), Buffer.alloc(cache.trailingZeros)]);
  const digest = await cache.digest();
  expect(sameBytes(digest, createHash('sha256').update(whole).digest())).toBe(true);
  const isDiffId = `sha256:${digest.toString('hex')}` === truth.build.diffId;
  expect(isDiffId).toBe(sameBytes(whole, truth.stream));
}

async function round(seed: number, truth: Truth, damaged: Uint8Array): Promise<{ refused: boolean; spans: number }> {
  let spans: SpanColumns;
  try {
    ({ spans } = readZtoc(damaged));
  } catch (error) {
    if (!(error instanceof IndexError)) throw error;
    return { refused: true, spans: 0 };
  }
  // Most damage is to entries; a table as it was need not be tried every time.
  if (seed % 8 !== 0 && (await isWholeTruth(spans, truth))) return { refused: false, spans: 0 };
  // Without digests: whoever forges a table makes digests that agree with it.
  return { refused: false, spans: await decodeAll(spans, truth, seed % 2 === 0) };
}

async function manyRounds(truth: Truth, make: (seed: number) => Promise<Uint8Array>, count: number): Promise<void> {
  let refused = 0;
  let spans = 0;
  for (let seed = 0; seed < count; seed++) {
    try {
      const outcome = await round(seed, truth, await make(seed));
      refused += outcome.refused ? 1 : 0;
      spans += outcome.spans;
    } catch (cause) {
      throw new Error(`${truth.name}, round ${seed}: ${cause instanceof Error ? cause.message : String(cause)}`, {
        cause,
      });
    }
  }
  console.info(`${truth.name}: ${count} rounds, ${refused} refused, ${spans} spans decoded`);
  expect(refused).toBeLessThan(count);
  expect(spans).toBeGreaterThan(0);
}

describe('a damaged zTOC', () => {
  it('as it is gives every span', async () => {
    for (const truth of truths) {
      for (const withDigests of [true, false]) {
        expect(await decodeAll(readZtoc(truth.ztoc).spans, truth, withDigests)).toBe(truth.build.spans.count);
      }
    }
  });

  it.each([0, 1, 2])(
    'is refused, or its spans are refused or what it says (layer %i)',
    async (which) => {
      const truth = truths[which] as Truth;
      await manyRounds(truth, async (seed) => mutate(truth.ztoc, seed, 1200), times(2000));
    },
    600_000,
  );

  it.each([0, 1])(
    'with a forged table is refused, or its spans are refused or what it says (layer %i)',
    async (which) => {
      const truth = truths[which] as Truth;
      await manyRounds(truth, (seed) => forge(truth, random(seed)), times(2000));
    },
    600_000,
  );
});

describe('damaged bytes', () => {
  it('of a span are refused when it has a digest, and never give more or less than the span', async () => {
    const truth = truths[0] as Truth;
    const { spans } = truth.build;
    for (let seed = 0; seed < times(2000); seed++) {
      const below = random(seed);
      const span = spans.span(below(spans.count));
      const dir = path.join(scratch.path, 'bytes');
      const cache = await openCache(spans, dir);
      if (cache === undefined) throw new Error('the table is fine');
      try {
        const good = truth.blob.subarray(span.blobStart, span.blobEnd);
        const data = mutate(good, seed, 64);
        const known = (await spans.window(span.index)) ?? Buffer.alloc(0);
        const window =
          below(2) === 0
            ? mutate(Buffer.concat([known, Buffer.of(0)]), seed, windowSize).subarray(0, below(windowSize + 1))
            : known;
        const decoder = pick(['gzip-checkpoint', 'gzip-checkpoint', 'gzip-member', 'stored'] as const, below);
        const request = {
          span: span.index,
          decoder,
          bits: below(8),
          data,
          window,
          openEnded: span.index === spans.count - 1,
        };
        const checked = await codeOf(cache.decode({ ...request, sha256: span.sha256 }), spanErrors);
        if (!sameBytes(data, good)) expect(checked).toBe('ERR_SPAN_DIGEST');
        const work = cache.decode({ ...request, sha256: undefined });
        if ((await codeOf(work, spanErrors)) === undefined) {
          expect(await work).toBeGreaterThanOrEqual(span.streamEnd - span.streamStart);
          expect(await cache.verify(span.index)).toBe(true);
        }
        expect(cache.presentSpans).toBeLessThanOrEqual(1);
      } catch (cause) {
        throw new Error(`round ${seed}`, { cause });
      } finally {
        await cache.close();
        rmSync(dir, { recursive: true, force: true });
      }
    }
  }, 600_000);

  it('of a blob stop its indexing, or give the digests of what came out', async () => {
    const codes = new Set(['ERR_INDEX_INFLATE', 'ERR_INDEX_TRAILING', 'ERR_INDEX_TRUNCATED', 'ERR_CLOSED']);
    for (let seed = 0; seed < times(2000); seed++) {
      const below = random(seed);
      const { blob } = pick(truths, below);
      const data = mutate(blob, seed, 200);
      const indexer = new StreamIndexer({
        format: below(4) === 0 ? 'stored' : 'gzip',
        spanSize: 1 + below(50_000),
        dataFd: -1,
      });
      const hash = createHash('sha256');
      let size = 0;
      const closeAt = below(8) === 0 ? below(data.length) : Infinity;
      const pass = async () => {
        for (let at = 0; at < data.length; ) {
          const next = at + 1 + below(60_000);
          const pushed = indexer.push(data.subarray(at, next), (bytes) => {
            hash.update(bytes);
            size += bytes.length;
          });
          if (next > closeAt) indexer.close();
          await pushed;
          at = next;
        }
        return indexer.finish();
      };
      try {
        const index = await pass();
        expect(index.streamSize).toBe(size);
        expect(sameBytes(index.streamSha256, hash.digest())).toBe(true);
        expect(sameBytes(index.blobSha256, createHash('sha256').update(data).digest())).toBe(true);
        expect(index.spanSha256.length).toBe(32 * index.in.length);
      } catch (error) {
        if (!codes.has((error as { code?: string }).code ?? '')) throw new Error(`round ${seed}`, { cause: error });
      } finally {
        indexer.close();
      }
    }
  }, 600_000);
});
