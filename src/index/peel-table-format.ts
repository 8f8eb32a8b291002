// The table of a peel index: what is known of one layer. docs/peel-index.md is the specification. Integers little-endian:
//
//     0  magic "peeltbl\n"                 8  uint32 version (1)
//    12  uint32 decoder: its place in tableDecoders
//    16  sha256 of the layer blob (32)    48  sha256 of the layer stream, its diffID (32)
//    80  uint64 blob size                 88  uint64 stream size
//    96  uint64 span size asked for      104  uint32 spans
//   108  uint32 spans with a window      112  uint64 bytes of the columns
//   120  uint64 bytes of the tree as it stands in the table, compressed
//   128  uint64 bytes of the tree decompressed
//   136  columns: see peel-table-writer.ts
//        32 bytes per span: sha256 of its compressed bytes
//        32 bytes per span with a window: sha256 of the window's frame
//        the tree: zstd data
//        sha256 of every byte before it (32)
import type { SpanDecoder } from './layer-index.ts';

export const tableMagic = Buffer.from('peeltbl\n', 'latin1');
export const tableVersion = 1;
export const tableHeaderSize = 136;
export const sha256Size = 32;

/** How the spans of a table may be decoded; a number in a table is a place in this list. */
export const tableDecoders = ['stored', 'gzip-checkpoint', 'zstd-frame'] as const satisfies readonly SpanDecoder[];
export type TableDecoder = (typeof tableDecoders)[number];

/** Most bytes that a window's frame decodes to: all of the window in one run, and some. */
export const maxFrameContent = 32_776;

/** Most bytes of a window's frame: those as they are, and what zstd puts around them. */
export const maxFrameBytes = 33_280;

export interface TableHeader {
  readonly decoder: TableDecoder;
  readonly layerSha256: Uint8Array;
  readonly diffIdSha256: Uint8Array;
  readonly blobSize: number;
  readonly streamSize: number;
  readonly spanSize: number;
  readonly spans: number;
  readonly windows: number;
  readonly columnBytes: number;
  readonly treeFrameBytes: number;
  readonly treeBytes: number;
}

/** Bytes of the whole table. */
export function tableSize(header: TableHeader): number {
  const digests = sha256Size * (header.spans + header.windows);
  return tableHeaderSize + header.columnBytes + digests + header.treeFrameBytes + sha256Size;
}
