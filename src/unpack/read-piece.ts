import type { FileHandle } from 'node:fs/promises';
import { UnpackError } from './errors.ts';
import { diskError } from './feed-errors.ts';

export const maxPieceBytes = 1 << 20;

/** The next bytes of a file from `at` on, at least one of them, at most 1 MiB and none from `end` on. Errors: ERR_UNPACK_DISK, also when the file ends before. */
export async function readPiece(file: FileHandle, path: string, at: number, end: number): Promise<Uint8Array> {
  const wanted = Math.min(end - at, maxPieceBytes);
  // A new one each time: who reads may keep it for as long as he works on it.
  const buffer = Buffer.allocUnsafe(wanted);
  let bytesRead: number;
  try {
    ({ bytesRead } = await file.read(buffer, 0, wanted, at));
  } catch (cause) {
    throw diskError(`cannot read ${path}`, cause);
  }
  if (bytesRead === 0) throw new UnpackError('ERR_UNPACK_DISK', `${path} ends at byte ${at}: somebody cut it off`);
  return bytesRead === wanted ? buffer : buffer.subarray(0, bytesRead);
}
