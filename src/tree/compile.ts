import { randomUUID } from 'node:crypto';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { type ErofsOptions, writeErofs } from './erofs-writer.ts';
import { type LayerEntries, mergeLayers, type MergeOptions } from './merge.ts';
import type { Tree } from './tree.ts';

export type CompileOptions = ErofsOptions & MergeOptions;

/**
 * The merged tree of an image's layers and its EROFS image. Works for about a second per 100 000 entries without a pause:
 * call it in a worker thread.
 * Errors: TreeError.
 */
export function compileTree(
  layers: readonly LayerEntries[],
  options: CompileOptions = {},
): { tree: Tree; image: Buffer } {
  const tree = mergeLayers(layers, options);
  return { tree, image: writeErofs(tree, options) };
}

/** Puts `image` at `file`, whole or not at all, also across a power cut. Errors: those of the file system. */
export async function saveImage(file: string, image: Uint8Array): Promise<void> {
  const temporary = `${file}.${randomUUID()}.tmp`;
  try {
    await withFile(temporary, 'wx', async (handle) => {
      await handle.writeFile(image);
      await handle.sync();
    });
    await rename(temporary, file);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await withFile(path.dirname(file), 'r', (directory) => directory.sync());
}

async function withFile(file: string, flags: string, work: (handle: FileHandle) => Promise<void>): Promise<void> {
  const handle = await open(file, flags, 0o644);
  try {
    await work(handle);
  } finally {
    await handle.close();
  }
}
