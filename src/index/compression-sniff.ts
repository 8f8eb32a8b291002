import type { Compression } from '../oci/media-type.ts';

/** Bytes that `detectCompression` wants to see, if there are as many. */
export const sniffSize = 263;

const tarMagic = Buffer.from('ustar', 'latin1');
const tarMagicAt = 257;

/**
 * What a layer blob is, by its first bytes: media types lie. A gzip member starts with 1f 8b (RFC 1952), a zstd frame with
 * 28 b5 2f fd or, when skippable, 5x 2a 4d 18 (RFC 8878); anything else can only be a plain tar.
 */
export function detectCompression(head: Uint8Array): Compression {
  if (tarMagic.equals(head.subarray(tarMagicAt, tarMagicAt + tarMagic.length))) return 'none';
  if (startsWith(head, [0x1f, 0x8b])) return 'gzip';
  if (startsWith(head, [0x28, 0xb5, 0x2f, 0xfd])) return 'zstd';
  if (((head[0] ?? 0) & 0xf0) === 0x50 && startsWith(head.subarray(1), [0x2a, 0x4d, 0x18])) return 'zstd';
  return 'none';
}

/**
 * The first `size` bytes of `source` (fewer when it ends before), and all of it to read from the start.
 * Leaving `all` early ends `source`.
 */
export async function peek(
  source: AsyncIterable<Uint8Array>,
  size: number,
): Promise<{ head: Uint8Array; all: AsyncIterable<Uint8Array> }> {
  const iterator = source[Symbol.asyncIterator]();
  const chunks: Uint8Array[] = [];
  let length = 0;
  while (length < size) {
    const next = await iterator.next();
    if (next.done === true) break;
    chunks.push(next.value);
    length += next.value.length;
  }
  return { head: Buffer.concat(chunks), all: replay(chunks, iterator) };
}

async function* replay(chunks: readonly Uint8Array[], iterator: AsyncIterator<Uint8Array>): AsyncGenerator<Uint8Array> {
  try {
    yield* chunks;
    for (;;) {
      const next = await iterator.next();
      if (next.done === true) return;
      yield next.value;
    }
  } finally {
    await iterator.return?.();
  }
}

function startsWith(bytes: Uint8Array, magic: readonly number[]): boolean {
  return magic.every((byte, i) => bytes[i] === byte);
}
