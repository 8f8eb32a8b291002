// Contents of many files in a fixed order: small files are fetched ahead of the one being used, so that a tree of
// small files costs few round trips; memory stays bounded by `aheadBytes`.
import type { Image } from '../image/image.ts';
import type { TreeNode } from '../tree/tree.ts';

const smallFile = 256 * 1024;
const chunkSize = 1024 * 1024;
const aheadFiles = 64;
const aheadBytes = 16 * 1024 * 1024;

/** A piece of a file at its place; what no piece covers is a hole. */
export interface Piece {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

export interface Ahead<T> {
  readonly item: T;
  /** The data of a regular file in ascending order; empty for everything else. To be used before the next item is taken. */
  readonly pieces: () => AsyncIterable<Piece>;
}

interface Waiting<T> {
  readonly item: T;
  readonly fetched: Promise<Uint8Array> | undefined;
  readonly size: number;
}

/** `nodeOf` says whose bytes an item needs; undefined for none. Errors: those of `Image.read`, at the item they belong to. */
export async function* readAhead<T>(
  image: Image,
  items: Iterable<T>,
  nodeOf: (item: T) => TreeNode | undefined,
  signal: AbortSignal,
): AsyncGenerator<Ahead<T>> {
  const source = items[Symbol.iterator]();
  const queue: Waiting<T>[] = [];
  let queuedBytes = 0;
  let done = false;
  for (;;) {
    while (!done && queue.length < aheadFiles && queuedBytes < aheadBytes) {
      const next = source.next();
      if (next.done) done = true;
      else {
        const waiting = begin(image, next.value, nodeOf(next.value), signal);
        queue.push(waiting);
        queuedBytes += waiting.size;
      }
    }
    const first = queue.shift();
    if (!first) return;
    queuedBytes -= first.size;
    const node = nodeOf(first.item);
    yield { item: first.item, pieces: () => pieces(image, node, first.fetched, signal) };
  }
}

function begin<T>(image: Image, item: T, node: TreeNode | undefined, signal: AbortSignal): Waiting<T> {
  if (node?.type !== 'file' || node.size === 0 || node.size > smallFile) return { item, fetched: undefined, size: 0 };
  const fetched = image.read(node, 0, node.size, { signal });
  // The error belongs to whoever takes the item; until then it must not count as unhandled.
  fetched.catch(() => undefined);
  return { item, fetched, size: node.size };
}

async function* pieces(
  image: Image,
  node: TreeNode | undefined,
  fetched: Promise<Uint8Array> | undefined,
  signal: AbortSignal,
): AsyncGenerator<Piece> {
  if (fetched) yield { offset: 0, bytes: await fetched };
  else if (node?.type === 'file') {
    for (const extent of node.extents) {
      for (let done = 0; done < extent.size; done += chunkSize) {
        const offset = extent.fileOffset + done;
        const length = Math.min(chunkSize, extent.size - done);
        yield { offset, bytes: await image.read(node, offset, length, { signal }) };
      }
    }
  }
}
