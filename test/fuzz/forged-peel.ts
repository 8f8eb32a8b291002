// Peel tables and windows that a hostile producer made: well-formed and consistent, but for what was changed in the parts they are made of.
import { createHash } from 'node:crypto';
import { compress, decompress } from 'zstd-napi';
import { tableDecoders } from '../../src/index/peel-table-format.ts';
import { ByteWriter } from '../../src/index/varint.ts';
import type { TarEntry } from '../../src/tar/entry.ts';
import { archiveTree } from '../../src/tree/archive-tree.ts';
import { writeErofs } from '../../src/tree/erofs-writer.ts';
import { crc32c } from '../../src/tree/erofs/crc32c.ts';
import { interesting, mutate, type Random } from '../support/damage.ts';
import { pick } from './damaged-layers.ts';
import type { PeelOffer, PeelTruth } from './peel-truths.ts';

interface SpanParts {
  stream: number;
  /** First byte that is the span's alone. */
  blob: number;
  bits: number;
  frame: Buffer | undefined;
  sha256: Uint8Array;
}

export interface PeelParts {
  blobSize: number;
  streamSize: number;
  spanSize: number;
  spans: SpanParts[];
  tree: Buffer;
}

export function partsOf({ read, windows }: PeelTruth): PeelParts {
  const { blobSize, streamSize, spanSize, count } = read.spans;
  const spans = Array.from({ length: count }, (_, i): SpanParts => {
    const { streamStart, blobStart, bits, sha256 } = read.spans.span(i);
    const at = read.windows.offsets[i] as number;
    const frame = windows.subarray(at, at + (read.windows.lengths[i] as number));
    return {
      stream: streamStart,
      blob: blobStart + (bits > 0 ? 1 : 0),
      bits,
      frame: frame.length === 0 ? undefined : frame,
      sha256: sha256 ?? new Uint8Array(32),
    };
  });
  return { blobSize, streamSize, spanSize, spans, tree: Buffer.from(read.tree) };
}

/** With the checksum that its bytes should have. */
export function sealTable(table: Buffer): Buffer {
  const body = table.subarray(0, Math.max(0, table.length - 32));
  return Buffer.concat([body, createHash('sha256').update(body).digest()]);
}

/** By docs/peel-index.md, without a check: what does not fit is written as it is. */
export function writeParts({ descriptor, diffId, read }: PeelTruth, parts: PeelParts): PeelOffer {
  const { spans, tree } = parts;
  const frames = spans.flatMap(({ frame }) => frame ?? []);
  const columns = encodeColumns(read.spans.decoder, spans);
  const treeFrame = compress(tree, { compressionLevel: 6 });
  const header = Buffer.alloc(136);
  header.write('peeltbl\n', 'latin1');
  header.writeUInt32LE(1, 8);
  header.writeUInt32LE(
    tableDecoders.findIndex((decoder) => decoder === read.spans.decoder),
    12,
  );
  header.write(descriptor.digest.slice(7), 16, 'hex');
  header.write(diffId.slice(7), 48, 'hex');
  const sizes = [parts.blobSize, parts.streamSize, parts.spanSize];
  for (const [i, size] of sizes.entries()) header.writeBigUInt64LE(BigInt(size), 80 + 8 * i);
  header.writeUInt32LE(spans.length, 104);
  header.writeUInt32LE(frames.length, 108);
  const lengths = [columns.length, treeFrame.length, tree.length];
  for (const [i, size] of lengths.entries()) header.writeBigUInt64LE(BigInt(size), 112 + 8 * i);
  const digests = [...spans.map(({ sha256 }) => sha256), ...frames.map((frame) => hashed(frame))];
  const table = sealTable(Buffer.concat([header, columns, ...digests, treeFrame, Buffer.alloc(32)]));
  return { table, windows: Buffer.concat(frames) };
}

function encodeColumns(decoder: string, spans: readonly SpanParts[]): Buffer {
  const columns = new ByteWriter();
  const deltas = (starts: readonly number[]) => starts.map((start, i) => Math.max(0, start - (starts[i - 1] ?? 0)));
  for (const delta of deltas(spans.map(({ stream }) => stream)).slice(1)) columns.uint(delta);
  if (decoder === 'stored') return columns.finish();
  for (const delta of deltas(spans.map(({ blob }) => blob))) columns.uint(delta);
  if (decoder === 'zstd-frame') return columns.finish();
  columns.raw(Uint8Array.from(spans, ({ bits }) => bits));
  for (const { frame } of spans) columns.uint(frame?.length ?? 0);
  return columns.finish();
}

function hashed(bytes: Uint8Array): Buffer {
  return createHash('sha256').update(bytes).digest();
}

/** The digests that the spans' bytes have where they begin now. */
function hashSpans({ spans, blobSize }: PeelParts, blob: Buffer): void {
  for (const [i, span] of spans.entries()) {
    const start = span.blob - (span.bits > 0 ? 1 : 0);
    span.sha256 = hashed(blob.subarray(Math.max(0, start), spans[i + 1]?.blob ?? blobSize));
  }
}

type Forgery = (parts: PeelParts, below: Random, truth: PeelTruth) => void;

/** Any span but the first. */
function later({ spans }: PeelParts, below: Random): number {
  return 1 + below(spans.length - 1);
}

const steps = [-4096, -513, -512, -100, -2, -1, 1, 2, 100, 512, 513, 4096];

export const spanForgeries: readonly Forgery[] = [
  // Two spans change places in the stream.
  (parts, below) => {
    const [a, b] = [later(parts, below), later(parts, below)];
    const deltas = parts.spans.map(({ stream }, i) => stream - (parts.spans[i - 1]?.stream ?? 0));
    [deltas[a], deltas[b]] = [deltas[b] ?? 0, deltas[a] ?? 0];
    let at = 0;
    for (const [i, span] of parts.spans.entries()) span.stream = at += deltas[i] ?? 0;
  },
  // Two spans change places with all they have.
  ({ spans }, below) => {
    const [a, b] = [below(spans.length), below(spans.length)];
    const [first, second] = [spans[a] as SpanParts, spans[b] as SpanParts];
    [first.sha256, second.sha256] = [second.sha256, first.sha256];
    [first.bits, second.bits] = [second.bits, first.bits];
    [first.frame, second.frame] = [second.frame, first.frame];
  },
  (parts, below) => void ((parts.spans[later(parts, below)] as SpanParts).stream += pick(steps, below)),
  (parts, below) => void ((parts.spans[below(parts.spans.length)] as SpanParts).blob += pick(steps, below)),
  // All behind it move along.
  (parts, below) => {
    const by = pick(steps, below);
    for (const span of parts.spans.slice(later(parts, below))) span.stream += by;
    if (below(2) === 0) parts.streamSize += by;
  },
  (parts, below) => {
    const by = pick(steps, below);
    for (const span of parts.spans.slice(below(parts.spans.length))) span.blob += by;
  },
  ({ spans }, below) => void ((spans[below(spans.length)] as SpanParts).bits = below(9)),
  // One span of two: it is right, and larger.
  (parts, below) => void parts.spans.splice(later(parts, below), 1 + below(3)),
  // Two of one.
  (parts, below) => {
    const i = below(parts.spans.length);
    const span = parts.spans[i] as SpanParts;
    parts.spans.splice(i + 1, 0, { ...span, stream: span.stream + below(9000), blob: span.blob + below(3000) });
  },
  (parts, below) => void (parts.streamSize = Math.max(1, parts.streamSize + pick(steps, below))),
  (parts, below) => void (parts.streamSize = pick([...interesting, 2 ** 44, 2 ** 53 - 1], below)),
  (parts, below) => void (parts.blobSize = Math.max(0, parts.blobSize + pick(steps, below))),
  ({ spans }, below) => {
    const field = pick(['stream', 'blob'] as const, below);
    (spans[below(spans.length)] as SpanParts)[field] = pick([...interesting, 2 ** 44], below);
  },
  // Digests of others, and none.
  ({ spans }, below) => {
    const span = spans[below(spans.length)] as SpanParts;
    span.sha256 = below(2) === 0 ? (spans[below(spans.length)] as SpanParts).sha256 : Buffer.alloc(32);
  },
];

export const windowForgeries: readonly Forgery[] = [
  // Of another span.
  ({ spans }, below) => {
    const [a, b] = [pick(framed(spans), below), pick(framed(spans), below)];
    [a.frame, b.frame] = [b.frame, a.frame];
  },
  // None where one is needed, and one where none is.
  ({ spans }, below) => void (pick(framed(spans), below).frame = undefined),
  ({ spans }, below) => void ((spans[below(spans.length)] as SpanParts).frame = pick(framed(spans), below).frame),
  // Another window in a frame that is one.
  ({ spans }, below) => {
    const span = pick(framed(spans), below);
    const content = contentOf(span.frame as Buffer);
    for (let i = 1 + below(200); i > 0; i--) content[below(content.length)] = below(256);
    span.frame = compress(content);
  },
  // A frame of another size.
  ({ spans }, below) => {
    const span = pick(framed(spans), below);
    const content = contentOf(span.frame as Buffer);
    span.frame = compress(below(2) === 0 ? content.subarray(1) : Buffer.alloc(pick([0, 1, 32_769, 4 << 20], below)));
  },
  // A frame that is damaged.
  ({ spans }, below) => {
    const span = pick(framed(spans), below);
    span.frame = mutate(span.frame as Buffer, below(2 ** 31), 32);
  },
  // Frames that begin elsewhere.
  ({ spans }, below) => {
    const all = framed(spans);
    const i = below(all.length - 1);
    const both = Buffer.concat([all[i]?.frame ?? Buffer.alloc(0), all[i + 1]?.frame ?? Buffer.alloc(0)]);
    const cut = 1 + below(both.length - 1);
    (all[i] as SpanParts).frame = both.subarray(0, cut);
    (all[i + 1] as SpanParts).frame = both.subarray(cut);
  },
];

/** What a frame holds; the frame itself where another forgery has damaged it. */
function contentOf(frame: Buffer): Buffer {
  try {
    return decompress(frame);
  } catch {
    return Buffer.from(frame);
  }
}

function framed(spans: readonly SpanParts[]): SpanParts[] {
  return spans.filter(({ frame }) => frame !== undefined);
}

/** Where an EROFS image has its superblock, and how much of its first blocks the checksum there covers. */
const superblock = { at: 1024, covered: 512 };

/** Damage to the tree, which has its checksum right again. */
export const treeForgeries: readonly Forgery[] = [
  (parts, below) => {
    parts.tree = mutate(parts.tree, below(2 ** 31), parts.tree.length);
    sealTree(parts.tree);
  },
  // Other bytes for a file, or another name, owner, mode: of single bytes behind the superblock.
  (parts, below) => {
    const at = superblock.at + superblock.covered;
    for (let i = 1 + below(3); i > 0 && parts.tree.length > at; i--) {
      parts.tree[at + below(parts.tree.length - at)] = pick([0, 1, 2, 3, 4, 8, 46, 47, 97, 98, 255, below(256)], below);
    }
    sealTree(parts.tree);
  },
  otherFiles,
];

/** A tree of its own making: files under each other's names, with a part of their bytes, and with other modes. */
function otherFiles(parts: PeelParts, below: Random, { entries, read }: PeelTruth): void {
  const plain = entries.filter(({ path, extents, xattrs }) => {
    // Of one folder, and with one name.
    return path.startsWith('bin/') && extents.length === 1 && xattrs.size === 0;
  });
  const paths = plain.map(({ path }) => path).toSorted(() => below(3) - 1);
  const changed = entries.map((entry): TarEntry => {
    const i = plain.indexOf(entry);
    if (i < 0) return entry;
    const blocks = below(Math.ceil(entry.size / 512));
    const [size, at] = [entry.size - 512 * blocks, entry.dataOffset + 512 * blocks];
    const extents = [{ fileOffset: 0, streamOffset: at, size }];
    const path = paths[i] ?? entry.path;
    return { ...entry, path, mode: below(0o10000), size, extents, headerOffset: at, dataOffset: at };
  });
  parts.tree = Buffer.from(writeErofs(archiveTree(changed, { streamSize: read.spans.streamSize })));
}

function sealTree(tree: Buffer): void {
  if (tree.length < superblock.at + superblock.covered) return;
  tree.writeUInt32LE(0, superblock.at + 4);
  tree.writeUInt32LE(crc32c(tree.subarray(superblock.at, superblock.at + superblock.covered)), superblock.at + 4);
}

/** One or two of the forgeries. Span digests are made right again, but for one of four. */
export function forgePeel(truth: PeelTruth, forgeries: readonly Forgery[], below: Random): PeelOffer {
  const parts = partsOf(truth);
  const last = parts.spans.length;
  for (let i = below(3) === 0 ? 2 : 1; i > 0; i--) {
    if (parts.spans.length > 1) pick(forgeries, below)(parts, below, truth);
  }
  if (below(4) > 0 && parts.spans.length <= last + 2) hashSpans(parts, truth.blob);
  return writeParts(truth, parts);
}
