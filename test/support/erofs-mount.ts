// Our EROFS images judged by others: the kernel's driver and Debian's fsck.
import { mkdirSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { onTestFinished } from 'vitest';
import { run, runOk } from './run.ts';

const program = new URL('./mount-erofs.py', import.meta.url).pathname;

export const canMount = process.getuid?.() === 0;

/**
 * Mounts `image` below `dir` with the uncompressed layers `tars` as its devices (they grow to a multiple of 512 bytes).
 * Returns the mount point, which goes away with the test.
 */
export async function mountErofs(dir: string, image: Buffer, tars: readonly string[]): Promise<string> {
  const file = path.join(dir, 'tree.erofs');
  const target = path.join(dir, 'mnt');
  writeFileSync(file, image);
  mkdirSync(target);
  for (const tar of tars) truncateSync(tar, Math.ceil(statSync(tar).size / 512) * 512);
  await runOk('python3', [program, file, target, tars.map((tar) => `device=${tar}`).join(',')]);
  onTestFinished(async () => {
    await run('umount', ['-l', target]);
  });
  return target;
}

/** Fails with fsck.erofs's words when it finds anything. */
export async function fsckErofs(dir: string, image: Buffer): Promise<void> {
  const file = path.join(dir, 'check.erofs');
  writeFileSync(file, image);
  const result = await run('fsck.erofs', ['-d3', file], { timeout: 120_000 });
  if (result.code !== 0 || !result.err.includes('No errors found')) {
    throw new Error(`fsck.erofs: exit ${result.code}\n${result.err}${result.out}`);
  }
}
