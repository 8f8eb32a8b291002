// Real mounts that never outlive their test, whatever happens in it.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { onTestFinished } from 'vitest';
import type { DetachedMount } from '../../src/native/mounts.ts';

/** An empty directory to mount on; detached and removed when the test ends. */
export function mountPoint(): string {
  const dir = mkdtempSync(path.join(tmpdir(), 'peel-mnt-'));
  onTestFinished(() => {
    for (let layer = 0; layer < 8; layer++) {
      try {
        execFileSync('umount', ['-l', '-n', dir], { stdio: 'ignore' });
      } catch {
        break;
      }
    }
    rmdirSync(dir);
  });
  return dir;
}

/** Attaches the mount at a new mount point. */
export async function attached(mount: DetachedMount): Promise<string> {
  const dir = mountPoint();
  await mount.attach(dir);
  return dir;
}
