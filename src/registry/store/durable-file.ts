// Files that are either there in full or not there, also after a crash: written beside, synced, renamed, and the directory synced.
import { randomBytes } from 'node:crypto';
import { link, open, readFile, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { makeDirectory } from '../../util/make-directory.ts';

/** How often a folder is made that a collector removes again. */
const maxAttempts = 100;

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
    const handle = await inFolder(dir, () => open(temporary, 'wx'));
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
 * Does what needs the folder `dir`. Only when nothing is found the folder is made, and it is done again: a collector may remove folders that are empty at
 * any moment. Errors: those of `work` and of mkdir(2).
 */
export async function inFolder<T>(dir: string, work: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await work();
    } catch (error) {
      if (!isNotFound(error) || attempt === maxAttempts) throw error;
    }
    await makeFolder(dir);
  }
}

/** Those above it may be removed by a collector at this moment, and are made again. */
export async function makeFolder(dir: string): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      await makeDirectory(dir);
      return;
    } catch (error) {
      if (!isNotFound(error) || attempt === maxAttempts) throw error;
    }
  }
}

export async function syncDirectory(dir: string): Promise<void> {
  const handle = await open(dir, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
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
