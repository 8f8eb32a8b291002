import { open, stat, unlink } from 'node:fs/promises';
import { randomUUID } from 'node:crypto';
import path from 'node:path';
import type { ProbeResult } from './erofs-probe.ts';
import { FuseServer } from './fuse-server.ts';
import { fuseMount, openFuseDevice } from './mounts.ts';

const reasons: Readonly<Record<string, string>> = {
  EOPNOTSUPP: 'this kernel has no FUSE passthrough',
  EPERM: 'FUSE passthrough needs CAP_SYS_ADMIN',
  ELOOP: 'the files are on a stacked filesystem, which the kernel does not pass through',
};

/**
 * Whether files of `dir` (where the layers' data lies) can be read by the kernel without the server. Makes a file there
 * and a mount that is attached nowhere, and leaves neither. Never rejects.
 */
export async function probePassthrough(dir: string): Promise<ProbeResult> {
  const file = path.join(dir, `.probe-${randomUUID()}`);
  let server: FuseServer | undefined;
  try {
    const handle = await open(file, 'wx', 0o600);
    try {
      const fd = openFuseDevice();
      const mount = await fuseMount({ fd, allowOther: false });
      server = FuseServer.blobs({ fd, threads: 1 });
      // The answer to the first request comes after the two sides agreed on what they can do.
      let refused: string | undefined;
      try {
        await stat(mount.path);
        refused = server.tryPassthrough(handle.fd);
      } finally {
        mount.close();
      }
      if (refused === undefined) return { supported: true, reason: 'complete layers are read by the kernel itself' };
      return { supported: false, reason: reasons[refused] ?? `the kernel refuses FUSE passthrough (${refused})` };
    } finally {
      await handle.close();
      await unlink(file);
    }
  } catch (error) {
    return { supported: false, reason: error instanceof Error ? error.message : String(error) };
  } finally {
    await server?.stop();
  }
}
