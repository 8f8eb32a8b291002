// Small layers with a zTOC each, to be damaged, and what the tests over them share.
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { expect } from 'vitest';
import { buildLayerIndex } from '../../src/index/builder.ts';
import type { LayerBuild } from '../../src/index/layer-build.ts';
import type { SpanColumns } from '../../src/index/span-columns.ts';
import { ztocFromBuild } from '../../src/index/ztoc-from-build.ts';
import { LayerCache } from '../../src/native/layer-cache.ts';
import { chunked, noise } from '../index/layers.ts';
import type { Random } from '../support/damage.ts';
import { rounds } from '../support/fixtures.ts';
import { archive } from '../support/tar-builder.ts';

export const spanSize = 16 << 10;
export const spanErrors: ReadonlySet<string> = new Set(['ERR_SPAN_DIGEST', 'ERR_SPAN_INFLATE', 'ERR_SPAN_LENGTH']);
const fileErrors = new Set(['EFBIG', 'ENOSPC']);

/** Ten thousand zTOCs at scale 1; a tenth, which is the least, where nothing is said: they run over two builds of the addon. */
export const times = (count: number): number => rounds(count, 200, 0.1);

/** A layer as it really is. */
export interface Truth {
  readonly name: string;
  readonly stream: Buffer;
  readonly blob: Buffer;
  readonly build: LayerBuild;
  readonly ztoc: Buffer;
}

/** One gzip member, two of them, no compression. */
export async function makeTruths(): Promise<Truth[]> {
  const truths: Truth[] = [];
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
  return truths;
}

export function pick<T>(list: ArrayLike<T>, below: Random): T {
  return list[below(list.length)] as T;
}

export async function openCache(spans: SpanColumns, dir: string): Promise<LayerCache | undefined> {
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
export async function codeOf(work: Promise<unknown>, codes: ReadonlySet<string>): Promise<string | undefined> {
  try {
    await work;
    return undefined;
  } catch (error) {
    const code = (error as { code?: string }).code ?? String(error);
    expect(codes).toContain(code);
    return code;
  }
}

export function sameBytes(a: Uint8Array | undefined, b: Uint8Array | undefined): boolean {
  return a === b || (a !== undefined && b !== undefined && Buffer.compare(a, b) === 0);
}
