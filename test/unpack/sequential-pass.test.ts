import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import path from 'node:path';
import { crc32, deflateRawSync, gzipSync } from 'node:zlib';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { Descriptor } from '../../src/oci/descriptor.ts';
import { digestFromSha256 } from '../../src/oci/digest.ts';
import { readTar } from '../../src/tar/reader.ts';
import { sequentialPass, type SequentialPassOptions } from '../../src/unpack/sequential-pass.ts';
import { chunked, filter, noise, sha256 } from '../index/layers.ts';
import { rounds } from '../support/fixtures.ts';
import { SinkRecord } from '../support/sink-record.ts';
import { archive, member, oldGnuSparse } from '../support/tar-builder.ts';
import { tempDir } from '../support/tmp.ts';

const tar = archive(
  { name: 'etc/', flag: '5' },
  { name: 'etc/noise', data: noise(900_000) },
  oldGnuSparse(
    'sparse',
    100_000,
    [
      [0, 512],
      [90_112, 512],
    ],
    noise(1024),
  ),
  { name: 'link', flag: '2', link: 'etc' },
  { name: 'last', data: 'x'.repeat(2_000_000) },
);
const types = {
  none: 'application/vnd.oci.image.layer.v1.tar',
  gzip: 'application/vnd.oci.image.layer.v1.tar+gzip',
  zstd: 'application/vnd.oci.image.layer.v1.tar+zstd',
};
const zstd = (bytes: Uint8Array, ...args: string[]) => filter('zstd', ['-q', '-c', ...args], bytes);
const skippable = Buffer.concat([Buffer.from([0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0]), Buffer.from('abc')]);

async function dataFile(): Promise<FileHandle> {
  const file = await open(path.join(tempDir(), 'data'), 'w+');
  onTestFinished(() => file.close());
  return file;
}

function described(blob: Uint8Array, mediaType: string): Descriptor {
  return { mediaType, digest: sha256(blob), size: blob.length };
}

type Change = Partial<SequentialPassOptions> & { readonly mediaType?: string };

/** The pass over `blob`, and what it told. */
async function pass(blob: Uint8Array, change: Change = {}) {
  const sink = new SinkRecord();
  const file = await dataFile();
  const build = sequentialPass({
    blob: chunked(blob),
    descriptor: described(blob, change.mediaType ?? types.gzip),
    diffId: sha256(tar),
    dataFd: file.fd,
    sink,
    limits: { maxLayerSize: 1 << 30, maxRatio: 1100 },
    signal: new AbortController().signal,
    ...change,
  });
  return { build, sink };
}

describe('sequentialPass', () => {
  it.each<[string, string, () => Promise<Buffer> | Buffer]>([
    ['gzip', types.gzip, () => gzipSync(tar)],
    ['gzip members', types.gzip, () => Buffer.concat([gzipSync(tar.subarray(0, 99)), gzipSync(tar.subarray(99))])],
    ['zstd', types.zstd, () => zstd(tar)],
    [
      'zstd frames',
      types.zstd,
      async () =>
        Buffer.concat([skippable, await zstd(tar.subarray(0, 700_000)), skippable, await zstd(tar.subarray(700_000))]),
    ],
    ['a plain tar', types.none, () => tar],
    ['gzip that says it is zstd', types.zstd, () => gzipSync(tar)],
  ])('tells members and data of %s while it goes', async (_, mediaType, make) => {
    const blob = await make();
    const { build, sink } = await pass(blob, { mediaType });
    const layer = await build;
    expect(sink.calls[0]).toBe('begin');
    expect(sink.members).toEqual(readTar(tar));
    // Those that are kept for the index, not a second set of them.
    expect(sink.members.every((entry, i) => entry === layer.entries[i])).toBe(true);
    expect(Buffer.concat(sink.stream).equals(tar)).toBe(true);
    expect(sink.offsets.at(-1)).toBe(tar.length);
    expect(sink.offsets.length).toBeGreaterThan(1);
    expect(layer).toMatchObject({ blobDigest: sha256(blob), diffId: sha256(tar), streamSize: tar.length });
  });

  it('makes data readable before the blob is here', async () => {
    const blob = gzipSync(tar, { level: 0 });
    const sink = new SinkRecord();
    const file = await dataFile();
    async function* held(): AsyncGenerator<Uint8Array> {
      yield* chunked(blob.subarray(0, 2_500_000));
      // What has come must be told of without anything more of the blob.
      while ((sink.offsets.at(-1) ?? 0) < 500_000) await new Promise((resolve) => setTimeout(resolve, 5));
      expect(sink.members.map((entry) => entry.path)).toContain('etc/noise');
      yield* chunked(blob.subarray(2_500_000));
    }
    await sequentialPass({
      blob: held(),
      descriptor: described(blob, types.gzip),
      diffId: sha256(tar),
      dataFd: file.fd,
      sink,
      limits: { maxLayerSize: 1 << 30, maxRatio: 1100 },
      signal: AbortSignal.timeout(20_000),
    });
    expect(Buffer.concat(sink.stream).equals(tar)).toBe(true);
  });

  it('reads a million members (at full scale), and refuses one more than it may', async () => {
    const perMember = 2048;
    const count = Math.ceil(rounds(1_000_000, 100_001, 0.1) / perMember);
    const part = Buffer.concat(Array.from({ length: perMember }, (_, i) => member({ name: `d/${i}` })));
    const end = Buffer.alloc(1024);
    const [many, last] = [gzipSync(part), gzipSync(end)];
    async function* blob(): AsyncGenerator<Uint8Array> {
      for (let i = 0; i < count; i += 1) yield many;
      yield last;
    }
    const digest = createHash('sha256');
    const diffId = createHash('sha256');
    for (let i = 0; i < count; i += 1) {
      digest.update(many);
      diffId.update(part);
    }
    const descriptor = {
      mediaType: types.gzip,
      digest: digestFromSha256(digest.update(last).digest()),
      size: many.length * count + last.length,
    };
    let told = 0;
    const sink = {
      begin: () => {},
      entries: (entries: readonly unknown[]) => void (told += entries.length),
      written: () => {},
    };
    const options = {
      descriptor,
      diffId: digestFromSha256(diffId.update(end).digest()),
      dataFd: -1,
      sink,
      signal: new AbortController().signal,
    };
    const limits = { maxLayerSize: 1 << 30, maxRatio: 1100 };
    const build = await sequentialPass({ ...options, blob: blob(), limits });
    expect(told).toBe(count * perMember);
    expect(build.entries.length).toBe(told);

    const tooMany = sequentialPass({ ...options, blob: blob(), limits: { ...limits, maxEntries: 10_000 } });
    await expect(tooMany).rejects.toMatchObject({
      code: 'ERR_UNPACK_LIMIT',
      message: expect.stringContaining('more than 10000 members'),
    });
  }, 60_000);
});

describe('sequentialPass refuses', () => {
  const other = sha256(Buffer.from('other'));
  const gz = gzipSync(tar);
  const cut = tar.subarray(0, 600_000);

  it.each<[string, () => Promise<Uint8Array> | Uint8Array, (blob: Uint8Array) => Change, string, string]>([
    [
      'a blob of another digest',
      () => gz,
      (blob) => ({ descriptor: { ...described(blob, types.gzip), digest: other } }),
      'ERR_UNPACK_DIGEST',
      'instead of',
    ],
    [
      'a zstd blob of another digest',
      () => zstd(tar),
      (blob) => ({ descriptor: { ...described(blob, types.zstd), digest: other } }),
      'ERR_UNPACK_DIGEST',
      'instead of',
    ],
    [
      'a blob that is too short',
      () => tar,
      (blob) => ({ descriptor: { ...described(blob, types.none), size: blob.length + 512 } }),
      'ERR_UNPACK_DIGEST',
      'bytes instead of',
    ],
    [
      'a blob that is too long',
      () => tar,
      (blob) => ({ descriptor: { ...described(blob, types.none), size: 1000 } }),
      'ERR_UNPACK_DIGEST',
      'more than the 1000 bytes',
    ],
    ['another stream', () => gz, () => ({ diffId: other }), 'ERR_UNPACK_DIFF_ID', 'the image config says'],
    ['gzip cut short', () => gz.subarray(0, 500_000), () => ({}), 'ERR_UNPACK_LAYER', 'ends too early'],
    [
      'zstd cut short',
      async () => (await zstd(tar)).subarray(0, 500_000),
      () => ({ mediaType: types.zstd }),
      'ERR_UNPACK_LAYER',
      'in the middle of a frame',
    ],
    [
      'garbage behind gzip',
      () => Buffer.concat([gz, Buffer.from('garbage')]),
      () => ({}),
      'ERR_UNPACK_LAYER',
      'goes on after its last',
    ],
    [
      'garbage behind zstd',
      async () => Buffer.concat([await zstd(tar), Buffer.from('garbage')]),
      () => ({ mediaType: types.zstd }),
      'ERR_UNPACK_LAYER',
      'damaged',
    ],
    ['what is no tar', () => gzipSync(noise(4096)), () => ({}), 'ERR_UNPACK_LAYER', 'not a tar header'],
    [
      'a tar cut short',
      () => gzipSync(cut),
      () => ({ diffId: sha256(cut) }),
      'ERR_UNPACK_LAYER',
      'ends inside the data of etc/noise',
    ],
    [
      'a layer that is too large',
      () => gz,
      () => ({ limits: { maxLayerSize: 1_000_000, maxRatio: 1100 } }),
      'ERR_UNPACK_LIMIT',
      'more than 1000000 bytes',
    ],
    [
      'a media type that is no layer',
      () => gz,
      () => ({ mediaType: 'application/json' }),
      'ERR_UNPACK_UNSUPPORTED',
      'application/json',
    ],
    [
      'a digest that it cannot check',
      () => gz,
      () => ({ diffId: `sha512:${'0'.repeat(128)}` as never }),
      'ERR_UNPACK_UNSUPPORTED',
      'only sha256',
    ],
  ])('%s', async (_, make, change, code, message) => {
    const blob = await make();
    const { build } = await pass(blob, change(blob));
    await expect(build).rejects.toMatchObject({
      name: 'UnpackError',
      code,
      message: expect.stringContaining(message),
    });
    await expect(build).rejects.toThrow('sha256:');
  });

  it.each([types.gzip, types.zstd])('a bomb, and takes no more than the free part of it (%s)', async (mediaType) => {
    // A file of a gigabyte in some kilobytes; only its beginning is decoded.
    const header = member({ name: 'bomb', size: 1 << 30 });
    const blob =
      mediaType === types.gzip
        ? gzipBomb(header, 1 << 30)
        : await filter('sh', ['-c', '{ cat; head -c 1073741824 /dev/zero; } | zstd -q -c -1'], header);
    const { build, sink } = await pass(blob, { mediaType, limits: { maxLayerSize: 2 ** 40, maxRatio: 100 } });
    await expect(build).rejects.toMatchObject({
      code: 'ERR_UNPACK_LIMIT',
      message: expect.stringContaining('more than 100 times'),
    });
    expect(sink.offsets.at(-1) ?? 0).toBeLessThan(200 << 20);
  });

  it('to go on when told to stop, with the reason it was given', async () => {
    const controller = new AbortController();
    async function* blob(): AsyncGenerator<Uint8Array> {
      yield gz.subarray(0, 500_000);
      controller.abort(new Error('nobody wants it'));
      yield gz.subarray(500_000);
    }
    const { build } = await pass(gz, { blob: blob(), signal: controller.signal });
    await expect(build).rejects.toThrow('nobody wants it');
  });

  it('to hide what the blob or the sink throws', async () => {
    const mine = Object.assign(new Error('the line is dead'), { code: 'MINE' });
    async function* broken(): AsyncGenerator<Uint8Array> {
      yield gz.subarray(0, 500_000);
      throw mine;
    }
    await expect((await pass(gz, { blob: broken() })).build).rejects.toBe(mine);
    const sink = new SinkRecord();
    sink.entries = () => {
      throw mine;
    };
    await expect((await pass(gz, { sink })).build).rejects.toBe(mine);
  });

  it('a full disk', async () => {
    const full = await open('/dev/full', 'w');
    onTestFinished(() => full.close());
    const { build } = await pass(gz, { dataFd: full.fd });
    await expect(build).rejects.toMatchObject({ code: 'ERR_UNPACK_DISK' });
  });
});

/** `header`, and `zeros` bytes behind it, as one gzip member: the same compressed mebibyte again and again. */
function gzipBomb(header: Buffer, zeros: number): Buffer {
  const piece = 1 << 20;
  // Behind Z_FULL_FLUSH a piece depends on nothing before it and ends at a byte, so that pieces can be put in a row.
  const block = deflateRawSync(Buffer.alloc(piece), { finishFlush: 3, level: 9 });
  const start = deflateRawSync(header, { finishFlush: 3 });
  const head = Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]);
  const trailer = Buffer.alloc(8);
  trailer.writeUInt32LE(crc32(header), 0);
  return Buffer.concat([
    head,
    start,
    ...Array.from({ length: zeros / piece }, () => block),
    Buffer.from([3, 0]),
    trailer,
  ]);
}
