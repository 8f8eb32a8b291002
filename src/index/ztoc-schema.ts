// Field slots of the FlatBuffers schema of SOCI zTOC 0.9 (namespace ztoc), in schema order.
import type { EntryType } from '../tar/entry.ts';

export const ztocVersion = '0.9';

export const ztocSlots = {
  version: 0,
  buildTool: 1,
  compressedSize: 2,
  uncompressedSize: 3,
  toc: 4,
  compressionInfo: 5,
} as const;

export const tocSlots = { metadata: 0 } as const;

export const fileSlots = {
  name: 0,
  type: 1,
  /** Stream offset of the data, behind the header. */
  offset: 2,
  size: 3,
  link: 4,
  mode: 5,
  uid: 6,
  gid: 7,
  uname: 8,
  gname: 9,
  modTime: 10,
  devMajor: 11,
  devMinor: 12,
  /** Called xattrs in the schema, holds every raw PAX record. */
  pax: 13,
} as const;

export const paxSlots = { key: 0, value: 1 } as const;

export const compressionSlots = { algorithm: 0, maxSpanId: 1, spanDigests: 2, checkpoints: 3 } as const;

/** enum CompressionAlgorithm : byte. Gzip is the default and therefore never stored. */
export const ztocGzip = 1;
export const ztocUncompressed = 2;

const typeNames: Readonly<Record<EntryType, string>> = {
  file: 'reg',
  dir: 'dir',
  symlink: 'symlink',
  hardlink: 'hardlink',
  char: 'char',
  block: 'block',
  fifo: 'fifo',
};

const entryTypes = new Map(Object.entries(typeNames).map(([type, name]) => [name, type as EntryType]));

export function ztocTypeName(type: EntryType): string {
  return typeNames[type];
}

export function entryTypeOf(name: string): EntryType | undefined {
  return entryTypes.get(name);
}
