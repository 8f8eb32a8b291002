import { randomUUID } from 'node:crypto';
import { open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { syncDirectory } from './sync-directory.ts';
import { writeAll } from './write-all.ts';

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
