import { rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { canDirectIo, fsType, statFs } from '../../native/sys.ts';
import { humanBytes } from '../human.ts';
import type { Finding, Machine } from './checks.ts';

const little = 1024 ** 3;
const names = new Map<number, string>([
  [0xef53, 'ext4'],
  [0x58465342, 'xfs'],
  [0x9123683e, 'btrfs'],
  [fsType.tmpfs, 'tmpfs'],
  [fsType.overlay, 'overlay'],
  [fsType.fuse, 'fuse'],
  [0x6969, 'nfs'],
]);

export async function checkCacheDisk({ root }: Machine): Promise<Finding> {
  const what = 'cache disk';
  const { type, freeBytes, totalBytes } = statFs(root);
  const kind = names.get(type) ?? `filesystem 0x${type.toString(16)}`;
  const found = `${root}: ${kind}, ${humanBytes(freeBytes)} of ${humanBytes(totalBytes)} free`;
  if (freeBytes < little)
    return { what, state: 'note', found, todo: 'free some space (peel cache prune) or choose another --root' };
  if (type === fsType.tmpfs)
    return { what, state: 'note', found, todo: 'the cache takes memory and ends with the boot' };
  if (!(await directIo(root)))
    return { what, state: 'note', found, todo: 'no direct I/O here, so cached bytes are kept in memory twice' };
  return { what, state: 'ok', found };
}

async function directIo(root: string): Promise<boolean> {
  const file = path.join(root, `doctor-${process.pid}`);
  try {
    await writeFile(file, Buffer.alloc(8192), { mode: 0o600, flag: 'wx' });
    return canDirectIo(file);
  } finally {
    await rm(file, { force: true });
  }
}
