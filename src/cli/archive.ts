// A part of an image as a tar archive: names relative to the image's root, parents first, hard links as links.
import type { Image } from '../image/image.ts';
import type { EntryType } from '../tar/entry.ts';
import { formatSparseHeader, formatTarHeader, type TarMember, tarEnd, tarPadding } from '../tar/writer.ts';
import type { TreeNode } from '../tree/tree.ts';
import type { ByteString } from '../util/byte-string.ts';
import { baseName, type Located } from './image-path.ts';
import { type Piece, readAhead } from './read-ahead.ts';
import { type WalkEntry, walkTree } from './walk.ts';

const nothing = '' as ByteString;
const zeros = Buffer.alloc(1024 * 1024);

/** The bytes of the archive, in order. A chunk is valid until the next one is asked for. */
export async function* archive(image: Image, start: Located, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const firstNames = new Map<TreeNode, ByteString>();
  for await (const { item, pieces } of readAhead(image, entriesOf(start), ({ node }) => node, signal)) {
    signal.throwIfAborted();
    const { node } = item;
    const path = memberName(item.path);
    const first = firstNames.get(node);
    if (first !== undefined) {
      yield formatTarHeader(memberOf(node, path, 'hardlink', first));
      continue;
    }
    if (node.nlink > 1 && !node.children) firstNames.set(node, path);
    if (node.type === 'file') yield* fileMember(node, memberOf(node, path, 'file', nothing), pieces());
    else yield formatTarHeader(memberOf(node, path, node.type, node.link));
  }
  yield tarEnd;
}

function* entriesOf(start: Located): Generator<WalkEntry> {
  yield { path: start.path, name: baseName(start.path), node: start.node, depth: 0 };
  yield* walkTree(start.node, start.path, 1);
}

async function* fileMember(
  node: TreeNode,
  member: TarMember,
  pieces: AsyncIterable<Piece>,
): AsyncGenerator<Uint8Array> {
  const stored = node.extents.reduce((sum, { size }) => sum + size, 0);
  const aligned = node.extents.slice(0, -1).every(({ size }) => size % 512 === 0);
  const sparse = stored < node.size && aligned;
  yield sparse ? formatSparseHeader(member, node.extents) : formatTarHeader(member);
  let written = 0;
  for await (const { offset, bytes } of pieces) {
    if (!sparse) {
      yield* hole(offset - written);
      written = offset;
    }
    yield bytes;
    written += bytes.byteLength;
  }
  if (!sparse) yield* hole(node.size - written);
  yield tarPadding(sparse ? stored : node.size);
}

function* hole(size: number): Generator<Uint8Array> {
  for (let left = size; left > 0; left -= zeros.length) yield zeros.subarray(0, Math.min(left, zeros.length));
}

function memberName(path: ByteString): ByteString {
  return (path === '/' ? './' : path.slice(1)) as ByteString;
}

function memberOf(node: TreeNode, path: ByteString, type: EntryType, link: ByteString): TarMember {
  const { mode, uid, gid, mtime, mtimeNs, size, devMajor, devMinor, xattrs } = node;
  return {
    path,
    type,
    mode,
    uid,
    gid,
    uname: nothing,
    gname: nothing,
    mtime,
    mtimeNs,
    size,
    link,
    devMajor,
    devMinor,
    xattrs,
  };
}
