// The index file that a node keeps beside a layer. Integers little-endian:
//
//     0  magic "peelidx\n"
//     8  uint32 version (1 or 2)  12  uint32 size of this header (144)
//    16  uint64 file size
//    24  3 sections of { uint64 offset, uint64 length, 16 bytes: first half of the section's sha256 }: info, spans, entries
//   120  24 bytes zero             (more sections)
//   144  32 bytes sha256 of the 144 bytes before it: the fingerprint
//
// The header's hash covers the sections' hashes, and the spans section holds the hash of every stored window, so the
// fingerprint stands for the whole file although opening it reads only the header and the first two sections.
//
// info: JSON, see IndexInfo.
// spans: column after column, each starting on a multiple of 8:
//   count+1 float64 stream starts · count float64 blob starts · count float64 window offsets in the file
//   · count uint32 window lengths stored · count * 16 bytes window hash · count * 32 bytes span sha256 (if any) · count uint8 bits
//   A window is 32768 raw bytes, or raw deflate when stored in fewer; length 0 means that the span has none.
//   Version 2 has no windows itself: they are frames of a windows blob, which info names. Offsets and lengths are of the frame in
//   that blob, and the window hash is all 32 bytes of its sha256.
// entries: see entry-rows.ts.
import { createHash } from 'node:crypto';
import type { SpanDecoder } from './layer-index.ts';
import type { RemoteWindows } from './peel-windows.ts';

/** The version that a file has; one that needs no windows from elsewhere can be read by releases that know only the first. */
export const nodeIndexVersions = { ownWindows: 1, remoteWindows: 2 } as const;
export const nodeIndexMagic = Buffer.from('peelidx\n', 'latin1');
export const headerSize = 176;
export const hashedHeaderSize = 144;
/** Bytes of a sha256 that are kept where only damage, not malice, is to be found. */
export const checkSize = 16;
export const sectionNames = ['info', 'spans', 'entries'] as const;
export type SectionName = (typeof sectionNames)[number];

/** Where an index came from. */
export interface IndexProvenance {
  /** `node`: built here from the layer blob. */
  readonly format: 'peel' | 'soci-v1' | 'soci-v2' | 'node';
  /** Digest of the index manifest. */
  readonly indexDigest?: string | undefined;
  /** For people: the registry, mirror or reason it was built. */
  readonly source: string;
  /** Layer blob and layer stream it describes, where known. */
  readonly blobDigest?: string | undefined;
  readonly diffId?: string | undefined;
}

/** The info section. */
export interface IndexInfo extends IndexProvenance {
  readonly entryCount: number;
  readonly decoder: SpanDecoder;
  readonly blobSize: number;
  readonly streamSize: number;
  readonly openEnded: boolean;
  readonly spanSize: number;
  readonly spanCount: number;
  readonly hasDigests: boolean;
  /** Version 2: the blob that has the windows. */
  readonly windows?: Pick<RemoteWindows, 'digest' | 'size' | 'from'> | undefined;
}

export interface SpanLayout {
  readonly streamStarts: number;
  readonly blobStarts: number;
  readonly windowOffsets: number;
  readonly windowLengths: number;
  readonly windowChecks: number;
  readonly sha256: number;
  readonly bits: number;
  readonly length: number;
}

export interface SpanLayoutOptions {
  readonly hasDigests: boolean;
  /** Bytes per span. */
  readonly windowCheckSize: number;
}

/** Byte offsets of the columns in the spans section. */
export function spanLayout(count: number, options: SpanLayoutOptions): SpanLayout {
  let at = 0;
  const column = (bytes: number): number => {
    const start = at;
    at = Math.ceil((start + bytes) / 8) * 8;
    return start;
  };
  return {
    streamStarts: column(8 * (count + 1)),
    blobStarts: column(8 * count),
    windowOffsets: column(8 * count),
    windowLengths: column(4 * count),
    windowChecks: column(options.windowCheckSize * count),
    sha256: column(options.hasDigests ? 32 * count : 0),
    bits: column(count),
    length: at,
  };
}

export function checkOf(bytes: Uint8Array): Buffer {
  return createHash('sha256').update(bytes).digest().subarray(0, checkSize);
}
