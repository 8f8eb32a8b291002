import { lstat, opendir } from 'node:fs/promises';
import type { Stats } from 'node:fs';
import { errorCode } from '../layer/errors.ts';
import type { DiskUsage } from './layer-provider.ts';

const atOnce = 16;
/** What a container may do to its files while they are counted, or a tree too deep for a path. */
const passedOver: ReadonlySet<string | undefined> = new Set(['ENOENT', 'ENOTDIR', 'ELOOP', 'ENAMETOOLONG']);

/**
 * What a tree takes on its disk, directories included. Hard links count once; symbolic links are not followed, other file systems
 * not entered. Errors: the signal's reason; errno codes.
 */
export async function diskUsage(dir: string, options: { readonly signal: AbortSignal }): Promise<DiskUsage> {
  const root = await lstat(dir);
  const walk: Walk = { dev: root.dev, linked: new Set(), size: 0, inodes: 0, directories: [] };
  count(walk, Buffer.from(dir), root);
  for (let next = walk.directories.pop(); next !== undefined; next = walk.directories.pop()) {
    options.signal.throwIfAborted();
    await countEntries(walk, next);
  }
  return { size: walk.size, inodes: walk.inodes };
}

interface Walk {
  readonly dev: number;
  /** Inodes with several names that were counted. */
  readonly linked: Set<number>;
  size: number;
  inodes: number;
  /** Still to be read; as bytes, for names that are no UTF-8. */
  readonly directories: Buffer[];
}

async function countEntries(walk: Walk, dir: Buffer): Promise<void> {
  const opened = await unlessGone(opendir(dir, { encoding: 'latin1', bufferSize: 256 }));
  if (opened === undefined) return;
  let pending: Promise<void>[] = [];
  for await (const { name } of opened) {
    const path = Buffer.concat([dir, Buffer.from(`/${name}`, 'latin1')]);
    pending.push(countEntry(walk, path));
    if (pending.length < atOnce) continue;
    await Promise.all(pending);
    pending = [];
  }
  await Promise.all(pending);
}

async function countEntry(walk: Walk, path: Buffer): Promise<void> {
  const found = await unlessGone(lstat(path));
  if (found !== undefined && found.dev === walk.dev) count(walk, path, found);
}

function count(walk: Walk, path: Buffer, found: Stats): void {
  if (found.isDirectory()) {
    walk.directories.push(path);
  } else if (found.nlink > 1) {
    if (walk.linked.has(found.ino)) return;
    walk.linked.add(found.ino);
  }
  walk.size += found.blocks * 512;
  walk.inodes += 1;
}

async function unlessGone<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if (passedOver.has(errorCode(error))) return undefined;
    throw error;
  }
}
