// Files that are either there in full or not there, also after a crash: written beside, synced, renamed, and the directory synced.
import { randomBytes } from 'node:crypto';
import { link, open, readFile, rename, rm } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import path from 'node:path';
import { makeDirectory } from '../../util/make-directory.ts';
import { SharedSync } from './shared-sync.ts';

/** How often a folder is made that a collector removes again. */
const maxAttempts = 100;

const syncs = new SharedSync();

/** Folders in which one was made that may not be durable yet, each with a mark of the last one. */
const unsynced = new Map<string, object>();

export async function writeDurably(file: string, content: Uint8Array | string): Promise<void> {
  await write(file, content, rename);
}

/** False when there is such a file, which stays as it is, and is durable as well. */
export async function writeNewDurably(file: string, content: Uint8Array | string): Promise<boolean> {
  let isNew = true;
  await write(file, content, async (temporary) => {
    try {
      await link(temporary, file);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      isNew = false;
    }
    await rm(temporary);
  });
  return isNew;
}

async function write(
  file: string,
  content: Uint8Array | string,
  place: (temporary: string, file: string) => Promise<void>,
): Promise<void> {
  const dir = path.dirname(file);
  const temporary = path.join(dir, `.${randomBytes(8).toString('hex')}.tmp`);
  try {
    const handle = await openInFolder(temporary, 'wx');
    try {
      await handle.writeFile(content);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await place(temporary, file);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await syncDirectory(dir);
}

/**
 * Opens a file to be made. Only when nothing is found its folder is made, durably, and it is done again: a collector may remove folders that are empty at any moment. Errors: those
 * of open(2) and mkdir(2).
 */
export async function openInFolder(file: string, flags: string): Promise<FileHandle> {
  const handle = await openMaking(file, flags);
  try {
    // After the file is in it: until then it may be removed again, and a sync takes long.
    await syncAbove(path.dirname(file));
    return handle;
  } catch (error) {
    await handle.close();
    throw error;
  }
}

async function openMaking(file: string, flags: string): Promise<FileHandle> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await open(file, flags);
    } catch (error) {
      if (!isNotFound(error) || attempt === maxAttempts) throw error;
    }
    await make(path.dirname(file));
  }
}

/** Durably. Those above it may be removed by a collector at this moment, and are made again. */
export async function makeFolder(dir: string, mode?: number): Promise<void> {
  await make(dir, mode);
  await syncAbove(dir);
}

async function make(dir: string, mode?: number): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      await makeDirectory(dir, mode, (made) => void unsynced.set(path.dirname(made), {}));
      return;
    } catch (error) {
      if (!isNotFound(error) || attempt === maxAttempts) throw error;
    }
  }
}

/** What was made, linked or removed in `dir` before this call is so after a crash, too. Those who wait at once share a sync. */
export async function syncDirectory(dir: string): Promise<void> {
  await Promise.all([syncs.sync(dir), syncAbove(dir)]);
}

/** Makes durable that there is a folder `dir`, whoever made it or those above it. Nothing to be done for one that was there. */
async function syncAbove(dir: string): Promise<void> {
  const waiting: Promise<void>[] = [];
  for (let above = path.dirname(dir), below = dir; above !== below; below = above, above = path.dirname(above))
    if (unsynced.has(above)) waiting.push(syncMade(above));
  await Promise.all(waiting);
}

async function syncMade(dir: string): Promise<void> {
  const made = unsynced.get(dir);
  try {
    await syncs.sync(dir);
  } catch (error) {
    // What a collector removed again need not be durable.
    if (!isNotFound(error)) throw error;
  }
  // Another may have been made since.
  if (unsynced.get(dir) === made) unsynced.delete(dir);
}

/** Undefined when the file is not there. */
export async function readIfPresent(file: string): Promise<Buffer | undefined> {
  try {
    return await readFile(file);
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}

export function isNotFound(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'ENOENT' || code === 'ENOTDIR';
}
