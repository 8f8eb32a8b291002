import { open, readFile } from 'node:fs/promises';
import path from 'node:path';
import { deflateRawSync, gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildLayerIndex } from '../../src/index/builder.ts';
import { openNodeIndex } from '../../src/index/node-index.ts';
import { writeNodeIndex } from '../../src/index/node-index-writer.ts';
import { ztocFromBuild } from '../../src/index/ztoc-from-build.ts';
import { readZtoc } from '../../src/index/ztoc-reader.ts';
import { readTar } from '../../src/tar/reader.ts';
import { archive, oldGnuSparse, paxHeader } from '../support/tar-builder.ts';
import { keptTempDir, tempDir } from '../support/tmp.ts';
import { chunked, expectEverySpan, filter, makeTar, makeTree, noise, sha256 } from './layers.ts';

const spanSize = 256 << 10;
const scratch = keptTempDir();
let tarPath: string;
let tar: Buffer;

beforeAll(async () => {
  await makeTree(path.join(scratch.path, 'tree'));
  tarPath = await makeTar(path.join(scratch.path, 'tree'), scratch.path, '--format=posix');
  tar = await readFile(tarPath);
});

afterAll(() => scratch[Symbol.dispose]());

function members(...parts: readonly Uint8Array[]): Buffer {
  return Buffer.concat(parts.map((part) => gzipSync(part)));
}

async function gzipFile(...args: string[]): Promise<Buffer> {
  return filter('sh', ['-c', `gzip ${args.join(' ')} -c ${tarPath}`], Buffer.alloc(0));
}

/** A gzip header with every optional field (RFC 1952 section 2.3) in front of the deflate data of `bytes`. */
function ornateGzip(bytes: Uint8Array): Buffer {
  const plain = gzipSync(bytes);
  const header = Buffer.concat([
    Buffer.from([0x1f, 0x8b, 8, 0x1c, 0, 0, 0, 0, 0, 3]),
    Buffer.from([5, 0]),
    Buffer.from('extra'),
    Buffer.from('name\0comment\0'),
  ]);
  return Buffer.concat([header, deflateRawSync(bytes), plain.subarray(-8)]);
}

const gzipLayers: [string, () => Promise<Buffer> | Buffer][] = [
  ['gzip -1 of a pipe', () => filter('gzip', ['-1'], tar)],
  ['gzip -6 of a pipe', () => filter('gzip', ['-6'], tar)],
  ['gzip -9 of a file, with its name', () => gzipFile('-9')],
  ['gzip -n', () => gzipFile('-n')],
  ['pigz', () => filter('pigz', ['-c', '-p', '2'], tar)],
  ['pigz --independent', () => filter('pigz', ['-c', '-i', '-p', '2'], tar)],
  ['igzip', () => filter('igzip', ['-c', '-1'], tar)],
  ['zlib without compression', () => gzipSync(tar, { level: 0 })],
  ['a header with all optional fields', () => ornateGzip(tar)],
  [
    'several members',
    () => members(tar.subarray(0, 700_001), tar.subarray(700_001, 3_000_000), tar.subarray(3_000_000)),
  ],
  ['an empty first member', () => members(Buffer.alloc(0), tar)],
  [
    'empty members in between and at the end',
    () => members(tar.subarray(0, 99), Buffer.alloc(0), tar.subarray(99), Buffer.alloc(0)),
  ],
];

describe('buildLayerIndex of gzip layers', () => {
  it.each(gzipLayers)('reads %s in one pass', async (_, make) => {
    const blob = await make();
    const build = await buildLayerIndex(chunked(blob), {
      compression: 'gzip',
      spanSize,
      blobDigest: sha256(blob),
      blobSize: blob.length,
      diffId: sha256(tar),
    });
    expect(build).toMatchObject({ compression: 'gzip', streamSize: tar.length, tarEnd: expect.any(Number) });
    expect(build.entries).toEqual(readTar(tar));
    expect(build.spans.count).toBeGreaterThan(3);
    await expectEverySpan(build, blob, tar);

    const { ztoc } = ztocFromBuild(build, { buildTool: 'peel test' });
    const read = readZtoc(ztoc ?? Buffer.alloc(0), { blobSize: blob.length });
    expect(read.uncompressedSize).toBe(build.tarEnd);
    expect(read.entries.map((entry) => entry.path)).toEqual(build.entries.map((entry) => entry.path));
    expect(read.entries.map((entry) => entry.headerOffset)).toEqual(build.entries.map((entry) => entry.headerOffset));
    await expectEverySpan(read, blob, tar);
  });

  it('gives the same whatever pieces the blob comes in', async () => {
    const whole = gzipSync(archive({ name: 'noise', data: noise(300_000) }, { name: 'b', data: 'x'.repeat(600_000) }));
    const wholes = await Promise.all(
      [77, 4096, whole.length].map((size) => buildLayerIndex(chunked(whole, size), { spanSize: 4096 })),
    );
    const ztocs = wholes.map((build) =>
      Buffer.from(ztocFromBuild(build, { buildTool: 't' }).ztoc ?? []).toString('hex'),
    );
    expect(new Set(ztocs).size).toBe(1);
  });

  it('keeps the stream when told to', async () => {
    const file = await open(path.join(tempDir(), 'data'), 'w+');
    try {
      await buildLayerIndex(chunked(gzipSync(tar)), { dataFd: file.fd });
      expect(Buffer.compare(await file.readFile(), tar)).toBe(0);
    } finally {
      await file.close();
    }
  });

  it('reads a layer without members', async () => {
    const empty = Buffer.alloc(10_240);
    const blob = gzipSync(empty);
    const build = await buildLayerIndex(chunked(blob));
    expect(build).toMatchObject({ entries: [], streamSize: 10_240, tarEnd: 1024 });
    const read = readZtoc(ztocFromBuild(build, { buildTool: 't' }).ztoc ?? Buffer.alloc(0));
    expect(read.entries).toEqual([]);
    await expectEverySpan(build, blob, empty);
  });

  it('states a stream that stops before 1 MiB of padding, and still decodes it all', async () => {
    const padded = Buffer.concat([archive({ name: 'noise', data: noise(100_000) }), Buffer.alloc(1 << 20)]);
    const blob = gzipSync(padded);
    const build = await buildLayerIndex(chunked(blob));
    expect(build.streamSize - build.tarEnd).toBe(1 << 20);
    const read = readZtoc(ztocFromBuild(build, { buildTool: 't' }).ztoc ?? Buffer.alloc(0));
    expect(read.spans.openEnded).toBe(true);
    expect(read.spans.streamSize).toBe(build.tarEnd);
    await expectEverySpan(read, blob, padded);
  });

  it('keeps a checkpoint that stands in the padding', async () => {
    const padded = Buffer.concat([archive({ name: 'n', data: noise(100_000) }), Buffer.alloc(1 << 20)]);
    const blob = Buffer.concat([gzipSync(padded.subarray(0, 600_000)), gzipSync(padded.subarray(600_000))]);
    const build = await buildLayerIndex(chunked(blob), { spanSize: 100_000 });
    const read = readZtoc(ztocFromBuild(build, { buildTool: 't' }).ztoc ?? Buffer.alloc(0));
    expect(read.spans.streamSize).toBeGreaterThan(read.uncompressedSize);
    await expectEverySpan(read, blob, padded);
  });
});

describe('buildLayerIndex of other layers', () => {
  it('reads a plain tar', async () => {
    const build = await buildLayerIndex(chunked(tar), { compression: 'none', spanSize, diffId: sha256(tar) });
    expect(build.compression).toBe('none');
    expect(build.blobDigest).toBe(build.diffId);
    await expectEverySpan(build, tar, tar);
    const read = readZtoc(ztocFromBuild(build, { buildTool: 't' }).ztoc ?? Buffer.alloc(0));
    expect(read.compression).toBe('none');
    await expectEverySpan(read, tar, tar);
  });

  it.each([
    ['one frame', ['-3']],
    ['long distance matching', ['-19', '--long=24']],
    ['no checksum', ['-1', '--no-check']],
  ])('reads zstd with %s', async (_, args) => {
    const blob = await filter('zstd', ['-c', ...args], tar);
    const file = await open(path.join(tempDir(), 'data'), 'w+');
    try {
      const build = await buildLayerIndex(chunked(blob), {
        compression: 'zstd',
        spanSize,
        dataFd: file.fd,
        blobDigest: sha256(blob),
        diffId: sha256(tar),
      });
      expect(Buffer.compare(await file.readFile(), tar)).toBe(0);
      expect(build).toMatchObject({ compression: 'zstd', blobSize: blob.length, streamSize: tar.length });
      expect(build.entries).toEqual(readTar(tar));
      expect(build.spans.span(1)).toMatchObject({
        decoder: 'sequential',
        blobStart: 0,
        blobEnd: blob.length,
        sha256: undefined,
      });
      expect(ztocFromBuild(build, { buildTool: 't' }).skipped).toBe('a zTOC cannot describe zstd layers');
    } finally {
      await file.close();
    }
  });

  it('reads zstd frames one after the other, with skippable ones', async () => {
    const skippable = Buffer.concat([Buffer.from([0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0]), Buffer.from('abc')]);
    const parts = [
      await filter('zstd', ['-c'], tar.subarray(0, 1_000_000)),
      await filter('zstd', ['-c'], tar.subarray(1_000_000)),
    ];
    const blob = Buffer.concat([skippable, parts[0] as Buffer, skippable, parts[1] as Buffer]);
    const build = await buildLayerIndex(chunked(blob, 3333), { diffId: sha256(tar) });
    expect(build.compression).toBe('zstd');
  });

  it('believes the bytes, not the media type', async () => {
    expect((await buildLayerIndex(chunked(tar), { compression: 'gzip' })).compression).toBe('none');
    expect((await buildLayerIndex(chunked(gzipSync(tar)), { compression: 'zstd' })).compression).toBe('gzip');
    expect(
      (await buildLayerIndex(chunked(await filter('zstd', ['-c'], tar)), { compression: 'none' })).compression,
    ).toBe('zstd');
  });

  it('reads sparse files and says why they get no zTOC', async () => {
    const bytes = archive(
      oldGnuSparse(
        's',
        100_000,
        [
          [0, 512],
          [90_112, 512],
        ],
        noise(1024),
      ),
      { name: 'after', data: 'x' },
    );
    const blob = gzipSync(bytes);
    const build = await buildLayerIndex(chunked(blob));
    expect(build.entries.map((entry) => entry.extents.length)).toEqual([2, 1]);
    expect(ztocFromBuild(build, { buildTool: 't' })).toEqual({
      ztoc: undefined,
      skipped: 's: a zTOC cannot describe sparse files',
    });
    const file = path.join(tempDir(), 'index');
    await writeNodeIndex(file, build, { format: 'node', source: 'a test' });
    const index = await openNodeIndex(file);
    try {
      expect(index.entries).toEqual(build.entries);
      await expectEverySpan(index, blob, bytes);
    } finally {
      await index.close();
    }
  });

  it('reads PAX global headers', async () => {
    const global = paxHeader({ comment: 'a commit' }, 'g');
    const inFrontOfFolder = archive(global, { name: 'd/', flag: '5' }, { name: 'd/f', data: 'x' });
    const build = await buildLayerIndex(chunked(gzipSync(inFrontOfFolder)));
    expect(build.entries.map((entry) => entry.path)).toEqual(['d/', 'd/f']);
    const read = readZtoc(ztocFromBuild(build, { buildTool: 't' }).ztoc ?? Buffer.alloc(0));
    expect(read.entries.map((entry) => entry.dataOffset)).toEqual(build.entries.map((entry) => entry.dataOffset));

    const inFrontOfFile = archive({ name: 'd/', flag: '5' }, global, { name: 'd/f', data: 'x' });
    const other = await buildLayerIndex(chunked(gzipSync(inFrontOfFile)));
    expect(ztocFromBuild(other, { buildTool: 't' }).skipped).toContain('d/f: it follows a PAX global header');
  });

  it('reads a blob of no bytes as a layer of none', async () => {
    const build = await buildLayerIndex(chunked(Buffer.alloc(0)));
    expect(build).toMatchObject({ compression: 'none', streamSize: 0, entries: [], spans: { count: 1 } });
    expect(ztocFromBuild(build, { buildTool: 't' }).skipped).toBe('the layer is empty');
  });
});

describe('buildLayerIndex refuses', () => {
  const other = sha256(Buffer.from('other'));

  it.each<[string, () => Promise<unknown>, string, string]>([
    [
      'another blob',
      () => buildLayerIndex(chunked(gzipSync(tar)), { blobDigest: other }),
      'ERR_INDEX_BLOB_DIGEST',
      `instead of ${other}`,
    ],
    [
      'another stream',
      () => buildLayerIndex(chunked(gzipSync(tar)), { diffId: other }),
      'ERR_INDEX_DIFF_ID',
      `the image config says ${other}`,
    ],
    [
      'a blob that is too short',
      () => buildLayerIndex(chunked(tar), { blobSize: tar.length + 1 }),
      'ERR_INDEX_BLOB_SIZE',
      'bytes instead of',
    ],
    [
      'a blob that is too long',
      () => buildLayerIndex(chunked(tar), { blobSize: 5 }),
      'ERR_INDEX_BLOB_SIZE',
      'more than the 5 bytes',
    ],
    [
      'a gzip blob that was cut',
      () => buildLayerIndex(chunked(gzipSync(tar).subarray(0, 500_000))),
      'ERR_INDEX_LAYER',
      'layer is damaged',
    ],
    [
      'a zstd blob that was cut',
      async () => buildLayerIndex(chunked((await filter('zstd', ['-c'], tar)).subarray(0, 500_000))),
      'ERR_INDEX_LAYER',
      'in the middle of a frame',
    ],
    [
      'a damaged gzip blob',
      () => buildLayerIndex(chunked(gzipSync(tar).fill(0xff, 400_000, 400_100))),
      'ERR_INDEX_LAYER',
      'layer is damaged',
    ],
    [
      'a damaged zstd blob',
      async () => buildLayerIndex(chunked((await filter('zstd', ['-c'], tar)).fill(0xff, 4000, 4100))),
      'ERR_INDEX_LAYER',
      'layer is damaged',
    ],
    ['what is no tar', () => buildLayerIndex(chunked(noise(2048))), 'ERR_INDEX_LAYER', 'not a tar header'],
    [
      'a tar that was cut',
      () => buildLayerIndex(chunked(gzipSync(tar.subarray(0, 1_000_000)))),
      'ERR_INDEX_LAYER',
      'layer is damaged',
    ],
  ])('%s', async (_, run, code, message) => {
    await expect(run()).rejects.toMatchObject({ name: 'IndexError', code, message: expect.stringContaining(message) });
  });

  it('to go on when told to stop, and ends the source', async () => {
    const controller = new AbortController();
    let ended = false;
    async function* endless(): AsyncGenerator<Uint8Array> {
      try {
        yield archive({ name: 'zeros', size: 8 ** 11 - 1 }).subarray(0, 512);
        for (;;) yield Buffer.alloc(100_000);
      } finally {
        ended = true;
      }
    }
    const build = buildLayerIndex(endless(), {
      signal: controller.signal,
      onProgress: ({ streamBytes }) => {
        if (streamBytes > 5_000_000) controller.abort(new Error('enough'));
      },
    });
    await expect(build).rejects.toThrow('enough');
    expect(ended).toBe(true);
  });

  it('a full disk with its own error', async () => {
    const full = await open('/dev/full', 'w');
    try {
      await expect(buildLayerIndex(chunked(tar), { dataFd: full.fd })).rejects.toMatchObject({
        code: expect.stringMatching(/^E(NOSPC|SPIPE)$/),
      });
    } finally {
      await full.close();
    }
  });
});

it('a tar of every format keeps its entries through a zTOC', async () => {
  for (const format of ['v7', 'ustar', 'gnu', 'posix', 'oldgnu']) {
    const short = format === 'v7' || format === 'ustar' ? ['--exclude=sub'] : [];
    const file = await makeTar(
      path.join(scratch.path, 'tree'),
      tempDir(),
      `--format=${format}`,
      '--exclude=lib',
      ...short,
    );
    const build = await buildLayerIndex(chunked(gzipSync(await readFile(file), { level: 1 })));
    const read = readZtoc(ztocFromBuild(build, { buildTool: 't' }).ztoc ?? Buffer.alloc(0));
    const plain = (entries: typeof build.entries) => entries.map((entry) => ({ ...entry, pax: entry.pax.size }));
    expect(plain(read.entries), format).toEqual(plain(build.entries));
  }
});
