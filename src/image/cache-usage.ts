import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';

/** Bytes on disk, as `du` counts them. */
export interface CacheUsage {
  /** Layers in the block cache, also what is left of half-removed ones. */
  readonly layers: number;
  /** Layers as they were pushed. */
  readonly compressed: number;
  readonly trees: number;
  readonly total: number;
}

/** `root`: the state directory. What comes or goes meanwhile may be counted or not. */
export async function cacheUsage(root: string): Promise<CacheUsage> {
  const layers = await bytesBelow(join(root, 'blobs'));
  const compressed = await bytesBelow(join(root, 'compressed'));
  const trees = await bytesBelow(join(root, 'trees'));
  return { layers, compressed, trees, total: layers + compressed + trees };
}

/** Of a directory and all below it; 0 for what is not there. Follows no links. */
export async function bytesBelow(path: string): Promise<number> {
  const entries = await readdir(path, { withFileTypes: true }).catch(() => []);
  const files = entries.filter((entry) => !entry.isDirectory());
  const own = await Promise.all([path, ...files.map(({ name }) => join(path, name))].map(bytesOf));
  let sum = own.reduce((total, bytes) => total + bytes, 0);
  // One folder after the other: the threads of the pool have other work.
  for (const entry of entries) if (entry.isDirectory()) sum += await bytesBelow(join(path, entry.name));
  return sum;
}

async function bytesOf(path: string): Promise<number> {
  return await lstat(path).then(
    ({ blocks }) => blocks * 512,
    () => 0,
  );
}
