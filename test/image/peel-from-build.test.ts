import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { peelFromBuild } from '../../src/image/peel-from-build.ts';
import { buildLayerIndex } from '../../src/index/builder.ts';
import { decodeWindow } from '../../src/index/peel-window.ts';
import { readPeelTable } from '../../src/index/peel-table-reader.ts';
import { readErofs } from '../../src/tree/erofs-reader.ts';
import { treeEntries } from '../../src/tree/tree-entries.ts';
import { chunked, filter, sha256, zstdFrames } from '../index/layers.ts';
import { tarOf } from '../support/tar-members.ts';

const fineSpanSize = 64 << 10;
const text = Buffer.from(Array.from({ length: 40_000 }, (_, i) => `line ${i} of ${i % 977}\n`).join(''));
const tar = tarOf(
  { path: 'd', type: 'dir', mode: 0o700 },
  { path: 'd/text', data: text },
  { path: 'd/noise', data: randomBytes(100_000) },
  { path: 'd/.wh.gone' },
  { path: 'd/again', type: 'hardlink', link: 'd/text' },
);

const layers: [string, () => Promise<Buffer> | Buffer, { decoder: string; windows: boolean }][] = [
  ['gzip', () => filter('gzip', ['-6'], tar), { decoder: 'gzip-checkpoint', windows: true }],
  ['zstd in frames', () => zstdFrames(tar, 50_000), { decoder: 'zstd-frame', windows: false }],
  ['plain', () => tar, { decoder: 'stored', windows: false }],
];

describe('peelFromBuild', () => {
  it.each(layers)('describes a layer for a reader: %s', async (_, make, { decoder, windows }) => {
    const blob = await make();
    const build = await buildLayerIndex(chunked(blob), { fineSpanSize });
    const made = peelFromBuild(build);
    if (made.table === undefined) throw new Error(made.skipped);
    const table = readPeelTable(made.table);
    expect(table).toMatchObject({ layer: sha256(blob), diffId: sha256(tar) });
    expect(table.spans).toMatchObject({
      decoder,
      blobSize: blob.length,
      streamSize: tar.length,
      spanSize: made.spanSize,
    });
    expect(table.spans.count).toBeGreaterThan(3);
    expect(made.windows !== undefined).toBe(windows);
    expect(table.windows.size).toBe(made.windows?.length ?? 0);
    for (let i = 0; i < table.spans.count; i++) {
      expect(table.spans.span(i)).toEqual(build.fine?.spans.span(i));
      const [at, length] = [table.windows.offsets[i] as number, table.windows.lengths[i] as number];
      if (length > 0) expect(decodeWindow(made.windows?.subarray(at, at + length) as Uint8Array)).toHaveLength(32_768);
    }
    const names = treeEntries(readErofs(table.tree)).map(({ path, type, size }) => [path, type, size]);
    expect(names).toEqual(
      expect.arrayContaining([
        ['d/again', 'file', text.length],
        ['d/.wh.gone', 'file', 0],
      ]),
    );
  });

  it.each(layers)('gives the same bytes for the same layer, however it comes in: %s', async (_, make) => {
    const blob = await make();
    const made = await Promise.all(
      [1_013, blob.length].map(async (size) =>
        peelFromBuild(await buildLayerIndex(chunked(blob, size), { fineSpanSize })),
      ),
    );
    expect(made[0]?.table).toBeDefined();
    expect(made[1]).toEqual(made[0]);
  });

  it.each<[string, Buffer, RegExp]>([
    ['a hard link to what is in another layer', tarOf({ path: 'a', type: 'hardlink', link: 'b' }), /a/],
    ['an empty layer', Buffer.alloc(0), /the layer is empty/],
  ])('says why there is nothing: %s', async (_, bytes, why) => {
    const made = peelFromBuild(await buildLayerIndex(chunked(bytes), { fineSpanSize }));
    expect(made).toEqual({ table: undefined, skipped: expect.stringMatching(why) });
  });

  it('says why there is nothing: a layer read without fine spans', async () => {
    expect(peelFromBuild(await buildLayerIndex(chunked(tar)))).toMatchObject({ table: undefined });
  });
});
