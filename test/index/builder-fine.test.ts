// The fine spans that a pass over a layer finds: every one of them decodes by itself, from its own bytes and its window.
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildLayerIndex } from '../../src/index/builder.ts';
import type { BuildOptions, LayerBuild } from '../../src/index/layer-build.ts';
import { ztocFromBuild } from '../../src/index/ztoc-from-build.ts';
import { tarOf } from '../support/tar-members.ts';
import { keptTempDir } from '../support/tmp.ts';
import {
  chunked,
  expectEverySpan,
  filter,
  fineIndex,
  makeTar,
  makeTree,
  sha256,
  skippable,
  zstdFrames,
} from './layers.ts';

const fineSpanSize = 64 << 10;
const scratch = keptTempDir();
let tar: Buffer;

beforeAll(async () => {
  await makeTree(path.join(scratch.path, 'tree'));
  tar = await readFile(await makeTar(path.join(scratch.path, 'tree'), scratch.path));
});

afterAll(() => scratch[Symbol.dispose]());

async function build(blob: Uint8Array, options: BuildOptions = {}, pieces = 65_537): Promise<LayerBuild> {
  return await buildLayerIndex(chunked(blob, pieces), { fineSpanSize, diffId: sha256(tar), ...options });
}

/** Each span's digest is of its blob bytes, and spans leave no blob byte out. */
function expectDigests({ fine }: LayerBuild, blob: Uint8Array): void {
  const spans = Array.from({ length: fine?.spans.count ?? 0 }, (_, i) => fine?.spans.span(i));
  for (const span of spans) {
    const bytes = blob.subarray(span?.blobStart, span?.blobEnd);
    expect(span?.sha256 && Buffer.from(span.sha256).equals(createHash('sha256').update(bytes).digest())).toBe(true);
  }
  expect([spans[0]?.blobStart, spans.at(-1)?.blobEnd]).toEqual([0, blob.length]);
}

describe('fine spans of zstd layers', () => {
  it.each<[string, () => Promise<Buffer> | Buffer]>([
    ['pzstd', () => filter('pzstd', ['-c', '-p', '2', '-1'], tar)],
    ['many small frames', () => zstdFrames(tar, 20_000)],
    ['frames of the span size', () => zstdFrames(tar, fineSpanSize)],
    ['skippable frames in between and at the end', () => zstdFrames(tar, 100_000, skippable('note'))],
  ])('are whole frames: %s', async (_, make) => {
    const blob = await make();
    const made = await build(blob);
    const { fine } = fineIndex(made);
    expect(fine.spans.span(0).decoder).toBe('zstd-frame');
    expect(fine.spans.count).toBeGreaterThan(1);
    expect(fine.frames.length).toBe(0);
    for (let i = 0; i < fine.spans.count - 1; i++) {
      const { streamStart, streamEnd } = fine.spans.span(i);
      expect(streamEnd - streamStart).toBeGreaterThan(fineSpanSize);
    }
    expectDigests(made, blob);
    await expectEverySpan(fineIndex(made), blob, tar);
  });

  it('are the same however the blob comes in', async () => {
    const blob = zstdFrames(tar, 99_999, skippable(''));
    const made = await Promise.all([1_001, 65_537, blob.length].map((size) => build(blob, {}, size)));
    const tables = made.map(({ fine }) =>
      Array.from({ length: fine?.spans.count ?? 0 }, (_, i) => fine?.spans.span(i)),
    );
    expect(tables[0]?.length).toBeGreaterThan(10);
    expect(tables[1]).toEqual(tables[0]);
    expect(tables[2]).toEqual(tables[0]);
  });

  it('are not there for a single frame, and it is said', async () => {
    const blob = Buffer.concat([skippable('a'), await filter('zstd', ['-c', '-1'], tar), skippable('b')]);
    expect(await build(blob)).toMatchObject({
      fine: undefined,
      fineObstacle: expect.stringMatching(/single zstd frame/),
    });
  });

  it('are not there for frames that are too large, and it is said', async () => {
    const large = tarOf({ path: 'f', data: Buffer.alloc(33 << 20) });
    const blob = Buffer.concat([
      zstdFrames(large.subarray(0, 1000), 1000),
      zstdFrames(large.subarray(1000), large.length),
    ]);
    const made = await build(blob, { diffId: sha256(large) });
    expect(made).toMatchObject({ fine: undefined, fineObstacle: 'its zstd frames are too large to read in part' });
  });
});

describe('fine spans of other layers', () => {
  it.each<[string, () => Promise<Buffer> | Buffer, boolean]>([
    ['gzip -6', () => filter('gzip', ['-6'], tar), true],
    ['igzip', () => filter('igzip', ['-c', '-1'], tar), true],
    ['pigz', () => filter('pigz', ['-c', '-p', '2'], tar), true],
    ['stored blocks', () => gzipSync(tar, { level: 0 }), false],
    ['members of the span size', () => members(fineSpanSize), false],
    ['large members', () => members(1_000_000), true],
  ])('decode by themselves: %s', async (_, make, needsWindows) => {
    const blob = await make();
    const made = await build(blob);
    const { fine, spans } = fineIndex(made);
    expect(spans.span(0).decoder).toBe('gzip-checkpoint');
    expect(spans.count).toBeGreaterThan(10);
    expect(fine.frames.length > 0).toBe(needsWindows);
    await expectEverySpan({ spans }, blob, tar);
    const coarse = await build(blob, { fineSpanSize: undefined });
    expect(coarse).toMatchObject({ fine: undefined, fineObstacle: undefined });
    const ztocs = [made, coarse].map((each) => ztocFromBuild(each, { buildTool: 't' }).ztoc ?? Buffer.alloc(0));
    expect(Buffer.compare(ztocs[0] as Uint8Array, ztocs[1] as Uint8Array)).toBe(0);
  });

  it('cut a plain tar every so many bytes', async () => {
    const made = await build(tar);
    const { fine, spans } = fineIndex(made);
    expect(spans.count).toBe(Math.ceil(tar.length / fineSpanSize));
    expect(spans.span(1)).toMatchObject({ decoder: 'stored', streamStart: fineSpanSize, streamEnd: 2 * fineSpanSize });
    expect(fine.frames.length).toBe(0);
    expectDigests(made, tar);
    await expectEverySpan({ spans }, tar, tar);
  });

  it.each<[string, () => Buffer, BuildOptions, string]>([
    ['an empty layer', () => Buffer.alloc(0), { diffId: undefined }, 'the layer is empty'],
    [
      'what another program decodes',
      () => gzipSync(tar, { level: 1 }),
      { decoder: () => (blob) => gunzipped(blob) },
      'another program has decompressed the layer',
    ],
  ])('are not there for %s', async (_, make, options, fineObstacle) => {
    expect(await build(make(), options)).toMatchObject({ fine: undefined, fineObstacle });
  });
});

function members(size: number): Buffer {
  const parts: Buffer[] = [];
  for (let at = 0; at < tar.length; at += size) parts.push(gzipSync(tar.subarray(at, at + size), { level: 1 }));
  return Buffer.concat(parts);
}

async function* gunzipped(blob: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const pieces: Uint8Array[] = [];
  for await (const piece of blob) pieces.push(Buffer.from(piece));
  yield gunzipSync(Buffer.concat(pieces));
}
