// Writes a SOCI zTOC 0.9. Strings, tables and fields are laid down in the order of the SOCI builder, so that equal input
// gives its bytes, and with them its digests. Empty strings are stored, fields that hold their default are not.
import { Builder, type Offset } from 'flatbuffers';
import { bytesOf, displayBytes } from '../util/byte-string.ts';
import type { TarEntry } from '../tar/entry.ts';
import { IndexError } from './errors.ts';
import { formatRfc3339 } from './rfc3339.ts';
import {
  compressionSlots,
  fileSlots,
  paxSlots,
  tocSlots,
  ztocGzip,
  ztocSlots,
  ztocTypeName,
  ztocUncompressed,
  ztocVersion,
} from './ztoc-schema.ts';

export interface ZtocInit {
  readonly buildTool: string;
  readonly compression: 'gzip' | 'none';
  /** Bytes of the layer blob. */
  readonly compressedSize: number;
  /** Stream offset at which a tar reader stops: behind the two zero blocks. */
  readonly uncompressedSize: number;
  /** In archive order. */
  readonly entries: readonly TarEntry[];
  /** From writeCheckpoints or writeTarZinfo. */
  readonly checkpoints: Uint8Array;
  /** 32 bytes per span. */
  readonly spanSha256: Uint8Array;
}

/** Errors: ERR_INDEX_UNSUPPORTED when an entry cannot be described (see `ztocObstacle`). */
export function writeZtoc(init: ZtocInit): Uint8Array {
  const builder = new Builder(sizeBound(init));
  const version = builder.createString(ztocVersion);
  const buildTool = builder.createString(init.buildTool);
  const toc = writeToc(builder, init.entries);
  const info = writeCompressionInfo(builder, init);
  builder.startObject(6);
  builder.addFieldOffset(ztocSlots.version, version, 0);
  builder.addFieldOffset(ztocSlots.buildTool, buildTool, 0);
  builder.addFieldOffset(ztocSlots.toc, toc, 0);
  builder.addFieldInt64(ztocSlots.compressedSize, BigInt(init.compressedSize), 0n);
  builder.addFieldInt64(ztocSlots.uncompressedSize, BigInt(init.uncompressedSize), 0n);
  builder.addFieldOffset(ztocSlots.compressionInfo, info, 0);
  builder.finish(builder.endObject());
  return builder.asUint8Array();
}

/** At least the bytes that will be written: the builder doubles its buffer, which can be large, when it is too small. */
function sizeBound({ buildTool, checkpoints, spanSha256, entries }: ZtocInit): number {
  let bytes = 1024 + 3 * buildTool.length + checkpoints.length + 5 * spanSha256.length;
  for (const { path, link, uname, gname, pax } of entries) {
    // Table, strings with length, terminator and padding each, the time, and a vtable if no earlier one fits.
    bytes += 288 + path.length + link.length + uname.length + gname.length;
    for (const [key, value] of pax) bytes += 48 + key.length + value.length;
  }
  return bytes;
}

function writeToc(builder: Builder, entries: readonly TarEntry[]): Offset {
  const offsets: Offset[] = [];
  for (const entry of entries.toReversed()) offsets.push(writeEntry(builder, entry));
  const metadata = writeOffsets(builder, offsets);
  builder.startObject(1);
  builder.addFieldOffset(tocSlots.metadata, metadata, 0);
  return builder.endObject();
}

function writeEntry(builder: Builder, entry: TarEntry): Offset {
  const modTime = formatRfc3339({ seconds: entry.mtime, nanoseconds: entry.mtimeNs });
  if (modTime === undefined) {
    throw new IndexError(
      'ERR_INDEX_UNSUPPORTED',
      `a zTOC cannot hold the mtime ${entry.mtime} of ${displayBytes(entry.path)}`,
    );
  }
  const name = builder.createString(bytesOf(entry.path));
  const type = builder.createString(ztocTypeName(entry.type));
  const link = builder.createString(bytesOf(entry.link));
  const uname = builder.createString(bytesOf(entry.uname));
  const gname = builder.createString(bytesOf(entry.gname));
  const time = builder.createString(modTime);
  const pax = writePax(builder, entry);
  builder.startObject(14);
  builder.addFieldOffset(fileSlots.name, name, 0);
  builder.addFieldOffset(fileSlots.type, type, 0);
  builder.addFieldInt64(fileSlots.offset, BigInt(entry.dataOffset), 0n);
  builder.addFieldInt64(fileSlots.size, BigInt(entry.size), 0n);
  builder.addFieldOffset(fileSlots.link, link, 0);
  builder.addFieldInt64(fileSlots.mode, BigInt(entry.rawMode ?? entry.mode), 0n);
  builder.addFieldInt32(fileSlots.uid, entry.uid | 0, 0);
  builder.addFieldInt32(fileSlots.gid, entry.gid | 0, 0);
  builder.addFieldOffset(fileSlots.uname, uname, 0);
  builder.addFieldOffset(fileSlots.gname, gname, 0);
  builder.addFieldOffset(fileSlots.modTime, time, 0);
  builder.addFieldInt64(fileSlots.devMajor, BigInt(entry.devMajor), 0n);
  builder.addFieldInt64(fileSlots.devMinor, BigInt(entry.devMinor), 0n);
  builder.addFieldOffset(fileSlots.pax, pax, 0);
  return builder.endObject();
}

function writePax(builder: Builder, entry: TarEntry): Offset {
  const offsets: Offset[] = [];
  const records = [...entry.pax].sort(([a], [b]) => (a < b ? -1 : 1));
  for (const [key, value] of records) {
    const keyOffset = builder.createString(bytesOf(key));
    const valueOffset = builder.createString(value);
    builder.startObject(2);
    builder.addFieldOffset(paxSlots.key, keyOffset, 0);
    builder.addFieldOffset(paxSlots.value, valueOffset, 0);
    offsets.push(builder.endObject());
  }
  return writeOffsets(builder, offsets.reverse());
}

function writeCompressionInfo(builder: Builder, init: ZtocInit): Offset {
  const checkpoints = builder.createByteVector(init.checkpoints);
  const count = init.spanSha256.length / 32;
  const offsets: Offset[] = [];
  for (let i = 0; i < count; i++) {
    const digest = Buffer.from(init.spanSha256.subarray(32 * i, 32 * i + 32)).toString('hex');
    offsets.push(builder.createString(`sha256:${digest}`));
  }
  const digests = writeOffsets(builder, offsets.reverse());
  builder.startObject(4);
  builder.addFieldInt32(compressionSlots.maxSpanId, count - 1, 0);
  builder.addFieldOffset(compressionSlots.spanDigests, digests, 0);
  builder.addFieldOffset(compressionSlots.checkpoints, checkpoints, 0);
  const algorithm = init.compression === 'gzip' ? ztocGzip : ztocUncompressed;
  builder.addFieldInt8(compressionSlots.algorithm, algorithm, ztocGzip);
  return builder.endObject();
}

/** A vector of offsets, given last element first: a FlatBuffer grows towards its start. */
function writeOffsets(builder: Builder, lastToFirst: readonly Offset[]): Offset {
  builder.startVector(4, lastToFirst.length, 4);
  for (const offset of lastToFirst) builder.addOffset(offset);
  return builder.endVector();
}
