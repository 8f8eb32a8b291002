// zTOCs, windows and compressed bytes as a broken or hostile producer would make them, all the way into the block cache: each
// is refused with a coded error, or gives what its table says. The zTOC's own digest is no help here, its maker chose it, and
// span digests do not cover windows; that the whole stream is right only the diffID can tell, and then it must.
import { createHash } from 'node:crypto';
import { rmSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { IndexError } from '../../src/index/errors.ts';
import type { Span } from '../../src/index/layer-index.ts';
import type { SpanColumns } from '../../src/index/span-columns.ts';
import { readZtoc } from '../../src/index/ztoc-reader.ts';
import { type LayerCache, setInflateBackend } from '../../src/native/layer-cache.ts';
import { mutate, random } from '../support/damage.ts';
import { keptTempDir } from '../support/tmp.ts';
import { codeOf, makeTruths, openCache, sameBytes, spanErrors, times, type Truth } from './damaged-layers.ts';
import { forge } from './forged-ztoc.ts';

/** Of a table with very many spans the first and the last are tried. */
const spansTried = 24;

const scratch = keptTempDir();
let truths: Truth[];
beforeAll(async () => {
  truths = await makeTruths();
});
afterAll(() => scratch[Symbol.dispose]());

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
    setInflateBackend(seed % 4 < 2 ? 'isal' : 'zlib');
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
