import { createHash, webcrypto } from 'node:crypto';
import { readFile, rm, utimes } from 'node:fs/promises';
import { errorCode } from '../layer/errors.ts';
import { writeWhole } from '../util/write-whole.ts';

/**
 * A compiled tree as a file, and beside it `<path>.sum`: the sha256 of its bytes, so that `peel fsck` can tell whether they are still right.
 * Trees of older releases have none. Errors: those of the file system.
 */
export async function writeTreeFile(path: string, image: Uint8Array): Promise<void> {
  // On another thread: a tree may have many megabytes.
  const sum = Buffer.from(await webcrypto.subtle.digest('SHA-256', image as Uint8Array<ArrayBuffer>)).toString('hex');
  await writeWhole(`${path}.sum`, [Buffer.from(sum)]);
  await writeWhole(path, [image]);
}

/** Undefined when nobody can say. Errors: errno codes but ENOENT. */
export async function isTreeFileRight(path: string): Promise<boolean | undefined> {
  try {
    const sum = await readFile(`${path}.sum`, 'latin1');
    const hash = createHash('sha256')
      .update(await readFile(path))
      .digest('hex');
    return hash === sum;
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/** Somebody found it and is about to use it: it is not cleared away at this moment. The file itself stays as it is, whose change would make it another one. Never rejects. */
export async function touchTreeFile(path: string): Promise<void> {
  const now = new Date();
  await utimes(`${path}.sum`, now, now).catch(() => undefined);
}

export async function removeTreeFile(path: string): Promise<void> {
  await rm(path, { force: true });
  await rm(`${path}.sum`, { force: true });
}
