import type { FileHandle } from 'node:fs/promises';

/**
 * Writes the pieces one after the other, at `position` or else where the file stands. A write that meets a full disk half way is
 * short and no error; the one after it is. Errors: those of write(2).
 */
export async function writeAll(file: FileHandle, pieces: readonly Uint8Array[], position?: number): Promise<void> {
  let at = position;
  for (let left = pieces.filter(({ length }) => length > 0); left.length > 0; ) {
    const { bytesWritten } = await file.writev(left, at);
    if (at !== undefined) at += bytesWritten;
    left = withoutFirst(left, bytesWritten);
  }
}

function withoutFirst(pieces: readonly Uint8Array[], bytes: number): Uint8Array[] {
  let skip = bytes;
  let index = 0;
  for (; index < pieces.length; index += 1) {
    const { length } = pieces[index] as Uint8Array;
    if (length > skip) break;
    skip -= length;
  }
  const rest = pieces.slice(index);
  if (rest[0] !== undefined) rest[0] = rest[0].subarray(skip);
  return rest;
}
