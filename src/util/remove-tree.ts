import { randomUUID } from 'node:crypto';
import { chmod, lstat, readdir, rename, rm } from 'node:fs/promises';

/** A path that is passed to the system is at most 4095 bytes long, and a name 255. */
const longestPath = 2048;

/**
 * Removes a directory that a layer was unpacked into, or a file: also one that is deeper than a path can name, or with directories that
 * their owner may not write. Nothing there is fine. Errors: errno codes of what cannot be removed.
 */
export async function removeTree(path: string): Promise<void> {
  // First, because Node's own removal goes on behind an error.
  await makeRemovable(path);
  // Somebody else may be removing it too.
  await rm(path, { recursive: true, force: true, maxRetries: 10, retryDelay: 20 });
}

/** Opens closed directories and lifts deep ones up. */
async function makeRemovable(top: string): Promise<void> {
  const found = await lstat(top).catch(() => undefined);
  if (found?.isDirectory() !== true) return;
  const dirs = [Buffer.from(top)];
  for (let dir = dirs.pop(); dir !== undefined; dir = dirs.pop()) {
    if (dir.length > longestPath) {
      const lifted = Buffer.from(`${top}/${randomUUID()}`);
      await rename(dir, lifted);
      dir = lifted;
    }
    const stats = await lstat(dir).catch(orGone);
    if (stats === undefined) continue;
    const { mode } = stats;
    if ((mode & 0o700) !== 0o700) await chmod(dir, 0o700);
    for (const entry of (await readdir(dir, { withFileTypes: true, encoding: 'buffer' }).catch(orGone)) ?? []) {
      if (entry.isDirectory()) dirs.push(Buffer.concat([dir, Buffer.from('/'), entry.name]));
    }
  }
}

/** Somebody else was faster. */
function orGone(error: unknown): undefined {
  if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
  throw error;
}
