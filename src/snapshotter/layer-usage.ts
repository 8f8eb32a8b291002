import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { DiskUsage } from './layer-provider.ts';

/** What the files right in `dir`, and `file`, take on disk: blocks, so that holes count nothing. What is not there counts nothing. */
export async function layerUsage(dir: string, file: string | undefined): Promise<DiskUsage> {
  const names = await readdir(dir).catch((): string[] => []);
  const paths = names.map((name) => join(dir, name)).concat(file ?? []);
  const found = await Promise.all(paths.map((path) => stat(path).catch(() => undefined)));
  const there = found.filter((each) => each !== undefined);
  return { size: there.reduce((sum, { blocks }) => sum + blocks * 512, 0), inodes: there.length };
}
