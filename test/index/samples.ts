// Entries and tables to encode in tests, without a layer behind them.
import { createHash } from 'node:crypto';
import type { CheckpointsInit } from '../../src/index/checkpoints.ts';
import { writeCheckpoints } from '../../src/index/checkpoints.ts';
import type { TableDecoder } from '../../src/index/peel-table-format.ts';
import type { PeelTableInit } from '../../src/index/peel-table-writer.ts';
import { SpanColumns } from '../../src/index/span-columns.ts';
import { writeZtoc } from '../../src/index/ztoc-writer.ts';
import { digestFromSha256 } from '../../src/oci/digest.ts';
import type { TarEntry } from '../../src/tar/entry.ts';
import { xattrsOf } from '../../src/tar/xattr-records.ts';
import { type ByteString, byteStringFrom } from '../../src/util/byte-string.ts';

export function text(value: string | Buffer): ByteString {
  return byteStringFrom(Buffer.from(value as string));
}

export function sampleEntry(fields: Partial<TarEntry> & Pick<TarEntry, 'path' | 'type' | 'dataOffset'>): TarEntry {
  const size = fields.size ?? 0;
  const pax = fields.pax ?? new Map();
  return {
    mode: 0o644,
    uid: 0,
    gid: 0,
    uname: text(''),
    gname: text(''),
    mtime: 0,
    mtimeNs: 0,
    size,
    link: text(''),
    devMajor: 0,
    devMinor: 0,
    xattrs: xattrsOf(pax),
    pax,
    extents: size > 0 ? [{ fileOffset: 0, streamOffset: fields.dataOffset, size }] : [],
    sparse: false,
    headerOffset: fields.dataOffset - 512,
    ...fields,
  };
}

/** One entry of every kind in a stream of 6144 bytes. */
export const sampleEntries: readonly TarEntry[] = [
  sampleEntry({
    path: text('./'),
    type: 'dir',
    mode: 0o755,
    uname: text('root'),
    gname: text('root'),
    mtime: 1_700_000_000,
    dataOffset: 512,
  }),
  sampleEntry({
    path: text(Buffer.from('./b\xff\xfe', 'latin1')),
    type: 'file',
    mode: 0o4755,
    uid: 1000,
    gid: 4_294_967_294,
    mtime: 1_700_000_000,
    mtimeNs: 120_000_000,
    size: 700,
    pax: new Map([
      [text('mtime'), Buffer.from('1700000000.12')],
      [text('path'), Buffer.from('./b\xff\xfe', 'latin1')],
      [text('SCHILY.xattr.user.bin'), Buffer.from([0xff, 0x00, 0xfe])],
    ]),
    headerOffset: 512,
    dataOffset: 2048,
  }),
  sampleEntry({
    path: text('./link'),
    type: 'symlink',
    mode: 0o777,
    link: text('b<>&'),
    mtime: -1,
    mtimeNs: 1,
    headerOffset: 3072,
    dataOffset: 3584,
  }),
  sampleEntry({ path: text('./hard'), type: 'hardlink', link: text('./link'), mtimeNs: 999_999_999, dataOffset: 4096 }),
  sampleEntry({
    path: text('./tty'),
    type: 'char',
    mode: 0o666,
    rawMode: 0o20666,
    devMajor: 5,
    devMinor: 1,
    mtime: 951_782_400,
    dataOffset: 4608,
  }),
  sampleEntry({ path: text('./fifo'), type: 'fifo', mode: 0o600, dataOffset: 5120 }),
];

export function sampleDigest(content: string): Buffer {
  return createHash('sha256').update(content).digest();
}

/** `count` spans of a blob of 100 * count + 100 bytes and a stream of 3000 bytes per span. */
export function sampleCheckpoints(count: number): CheckpointsInit {
  const windows = Buffer.alloc(32_768 * count);
  for (let i = 1; i < count; i++) windows.fill(`window ${i} `, 32_768 * i, 32_768 * (i + 1));
  return {
    spanSize: 2048,
    in: Float64Array.from({ length: count }, (_, i) => 18 + 100 * i),
    out: Float64Array.from({ length: count }, (_, i) => 3000 * i),
    bits: Uint8Array.from({ length: count }, (_, i) => i % 8),
    windows,
  };
}

export function sampleDigests(count: number): Buffer {
  return Buffer.concat(Array.from({ length: count }, (_, i) => sampleDigest(`span ${i}`)));
}

/** A valid zTOC of a gzip layer with `spans` spans, at least three. */
export function sampleZtoc(
  spans = 3,
  options: { checkpoints?: Uint8Array; entries?: readonly TarEntry[] } = {},
): Uint8Array {
  return writeZtoc({
    buildTool: 'peel test',
    compression: 'gzip',
    compressedSize: 100 * spans + 100,
    uncompressedSize: 3000 * spans - 500,
    entries: options.entries ?? sampleEntries,
    checkpoints: options.checkpoints ?? writeCheckpoints(sampleCheckpoints(spans)),
    spanSha256: sampleDigests(spans),
  });
}

/** What a peel table says of a layer of `count` spans; every third gzip span has a window. */
export function samplePeelTable(decoder: TableDecoder = 'gzip-checkpoint', count = 4): PeelTableInit {
  const gzip = decoder === 'gzip-checkpoint';
  const streamStarts = Float64Array.from({ length: count }, (_, i) => 3000 * i);
  const streamSize = 3000 * count - 500;
  const lengths = Uint32Array.from({ length: count }, (_, i) => (gzip && i % 3 === 1 ? 100 + i : 0));
  const sha256 = new Uint8Array(32 * count);
  for (const [i, length] of lengths.entries()) if (length > 0) sha256.set(sampleDigest(`window ${i}`), 32 * i);
  const spans = {
    decoder,
    blobSize: decoder === 'stored' ? streamSize : 100 * count + 100,
    streamSize,
    openEnded: false,
    spanSize: 2048,
    streamStarts,
    blobStarts:
      decoder === 'stored' ? streamStarts : Float64Array.from({ length: count }, (_, i) => (gzip ? 18 : 0) + 100 * i),
    bits: gzip ? Uint8Array.from({ length: count }, (_, i) => i % 8) : undefined,
    sha256: sampleDigests(count),
  };
  return {
    layer: digestFromSha256(sampleDigest('layer')),
    diffId: digestFromSha256(sampleDigest('stream')),
    spans: new SpanColumns(spans, 'sample'),
    windows: { lengths, sha256 },
    tree: Buffer.from('an EROFS image '.repeat(20)),
  };
}
