import { writeFile } from 'node:fs/promises';

/**
 * Makes the kernel forget what it has read: pages of files in mounts are copies of what was wrong on disk, and no other call reaches
 * those of an EROFS or below an overlay. False where this process may not.
 */
export async function dropPageCache(): Promise<boolean> {
  try {
    await writeFile('/proc/sys/vm/drop_caches', '1');
    return true;
  } catch {
    return false;
  }
}
