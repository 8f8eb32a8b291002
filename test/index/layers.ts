// Layer blobs made by the tools that make them in the world, and a check that every span of an index gives its bytes.
import { createHash } from 'node:crypto';
import { cp, mkdir, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { expect } from 'vitest';
import binding from 'zstd-napi/binding.js';
import type { FineSpans, LayerBuild } from '../../src/index/layer-build.ts';
import type { LayerIndex, Span, SpanTable } from '../../src/index/layer-index.ts';
import { decodeWindow } from '../../src/index/peel-window.ts';
import { LayerCache } from '../../src/native/layer-cache.ts';
import { type Digest, digestFromSha256 } from '../../src/oci/digest.ts';
import { run, runOk } from '../support/run.ts';
import { tempDir } from '../support/tmp.ts';

export function sha256(bytes: Uint8Array): Digest {
  return digestFromSha256(createHash('sha256').update(bytes).digest());
}

/** Some 5 MB of files: program text, bytes that do not compress, a long run of one byte, links. */
export async function makeTree(tree: string): Promise<void> {
  await mkdir(path.join(tree, 'sub', 'n'.repeat(120)), { recursive: true });
  const modules = new URL('../../node_modules/', import.meta.url).pathname;
  await cp(path.join(modules, 'undici', 'lib'), path.join(tree, 'lib'), { recursive: true });
  await writeFile(path.join(tree, 'noise'), noise(1_500_000));
  await writeFile(path.join(tree, 'zeros'), Buffer.alloc(2_000_000));
  await writeFile(path.join(tree, 'sub', 'n'.repeat(120), 'empty'), '');
  await symlink('../noise', path.join(tree, 'sub', 'link'));
}

/** GNU tar's archive of `tree` in the folder `dir`, with `args` in front. Returns its path. */
export async function makeTar(tree: string, dir: string, ...args: string[]): Promise<string> {
  const tar = path.join(dir, 'layer.tar');
  await runOk('tar', ['--sort=name', '--mtime=@1700000000', '-cf', tar, ...args, '-C', tree, '.']);
  return tar;
}

/** Bytes that look random and are the same every time. */
export function noise(length: number): Buffer {
  const blocks = Array.from({ length: Math.ceil(length / 32) }, (_, i) => createHash('sha256').update(`${i}`).digest());
  return Buffer.concat(blocks).subarray(0, length);
}

/** stdout of a compressor that is given `input`. */
export async function filter(command: string, args: readonly string[], input: Uint8Array): Promise<Buffer> {
  const result = await run(command, args, { input });
  if (result.code !== 0) throw new Error(`${command}: ${result.err}`);
  return result.stdout;
}

/** The blob in pieces of `size` bytes, as a body that comes in over a network. */
export async function* chunked(blob: Uint8Array, size = 65_537): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < blob.length; at += size) yield blob.slice(at, at + size);
}

/** `bytes` in zstd frames of `size` bytes of it each. */
export function zstdFrames(bytes: Uint8Array, size: number, between: Uint8Array = Buffer.alloc(0)): Buffer {
  const frames: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; at += size) {
    const part = bytes.subarray(at, at + size);
    const frame = Buffer.alloc(part.length + 1000);
    frames.push(between, frame.subarray(0, new binding.CCtx().compress(frame, part, 1)));
  }
  return Buffer.concat([...frames, between]);
}

/** A zstd frame that holds nothing but a note. */
export function skippable(text: string): Buffer {
  const head = Buffer.from([0x5a, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]);
  head.writeUInt32LE(text.length, 4);
  return Buffer.concat([head, Buffer.from(text)]);
}

/** What a reader of the layer's fine spans has: their windows decoded from the frames. */
export function fineIndex({ entries, fine, fineObstacle }: LayerBuild): LayerIndex & { readonly fine: FineSpans } {
  if (fine === undefined) throw new Error(fineObstacle ?? 'no fine spans');
  const { frames, frameLengths } = fine;
  const offsets = [...frameLengths].map((_, i) => frameLengths.subarray(0, i).reduce((sum, length) => sum + length, 0));
  const spans = withWindows(fine.spans, (i) => {
    const [at, length] = [offsets[i] as number, frameLengths[i] as number];
    return length === 0 ? undefined : decodeWindow(frames.subarray(at, at + length));
  });
  return { entries, fine, spans };
}

/** The spans with these windows instead of their own. */
export function withWindows(spans: SpanTable, windowOf: (span: number) => Uint8Array | undefined): SpanTable {
  const { count, blobSize, streamSize, openEnded, spanSize } = spans;
  return {
    count,
    blobSize,
    streamSize,
    openEnded,
    spanSize,
    span: (i) => spans.span(i),
    spanAt: (offset) => spans.spanAt(offset),
    window: async (i) => windowOf(i),
    prepareWindows: () => {},
  };
}

/** Decodes every span from the last to the first, out of `blob`, and compares with the stream `tar`. */
export async function expectEverySpan(
  { spans }: Pick<LayerIndex, 'spans'>,
  blob: Uint8Array,
  tar: Uint8Array,
): Promise<void> {
  const dir = tempDir();
  const starts = Float64Array.from({ length: spans.count + 1 }, (_, i) =>
    i < spans.count ? spans.span(i).streamStart : spans.streamSize,
  );
  const cache = LayerCache.open({
    dir: path.join(dir, 'blob'),
    livePath: path.join(dir, 'live'),
    streamSize: spans.streamSize,
    spanStarts: starts,
    fingerprint: new Uint8Array(32),
  });
  try {
    for (let i = spans.count - 1; i >= 0; i--) {
      const span = spans.span(i);
      const last = i === spans.count - 1;
      await decode(cache, span, blob, await spans.window(i), last && spans.openEnded);
      const read = await cache.read(span.streamStart, span.streamEnd - span.streamStart);
      const wanted = tar.subarray(span.streamStart, span.streamEnd);
      expect(Buffer.compare(read, wanted), `span ${i}`).toBe(0);
    }
    expect(digestFromSha256(await cache.digest())).toBe(sha256(tar));
  } finally {
    await cache.close();
  }
}

async function decode(
  cache: LayerCache,
  span: Span,
  blob: Uint8Array,
  window: Uint8Array | undefined,
  openEnded: boolean,
): Promise<void> {
  const { decoder, index, bits, sha256: digest } = span;
  if (decoder !== 'gzip-checkpoint' && decoder !== 'stored' && decoder !== 'zstd-frame')
    throw new Error(`cannot decode ${decoder}`);
  const data = blob.slice(span.blobStart, span.blobEnd);
  await cache.decode({ span: index, decoder, bits, data, window, sha256: digest, openEnded });
}
