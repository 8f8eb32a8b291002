import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';

/** Clears away layers whose removal a killed process did not finish: they have a name that nobody looks for. */
export async function sweepRemoved(root: string): Promise<void> {
  for (const algorithm of ['sha256', 'sha512']) {
    const dir = join(root, 'blobs', algorithm);
    for (const name of await readdir(dir).catch(() => [])) {
      const pid = /^[0-9a-f]+\.gone-(\d+)-\d+$/.exec(name)?.[1];
      if (pid !== undefined && !isProcess(Number(pid))) await rm(join(dir, name), { recursive: true, force: true });
    }
  }
}

function isProcess(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM';
  }
}
