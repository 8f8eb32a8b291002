import { randomUUID } from 'node:crypto';
import { open, rename, rm } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { syncDirectory } from './sync-directory.ts';

/**
 * Puts a file with these bytes at `path`: whole or not at all, also across a power cut; what was there is replaced. Only its owner
 * may read it. Errors: those of the file system; nothing is left beside it then.
 */
export async function writeWhole(path: string, pieces: readonly Uint8Array[]): Promise<void> {
  const temporary = `${path}.${randomUUID()}.tmp`;
  try {
    const file = await open(temporary, 'wx', 0o600);
    try {
      await writeAll(file, pieces);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await syncDirectory(dirname(path));
}

/** A write that meets a full disk half way is short and no error; the one after it is. */
async function writeAll(file: FileHandle, pieces: readonly Uint8Array[]): Promise<void> {
  for (let left = pieces.filter(({ length }) => length > 0); left.length > 0; ) {
    const { bytesWritten } = await file.writev(left);
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
