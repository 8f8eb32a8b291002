import type { MountStatus } from '../image/umount.ts';
import { localMinute, printable, shortDigest } from './human.ts';
import type { Column } from './table.ts';

export const mountColumns: readonly Column[] = [
  { title: 'DIRECTORY' },
  { title: 'IMAGE' },
  { title: 'DIGEST' },
  { title: 'TRANSPORT' },
  { title: 'MODE' },
  { title: 'SINCE' },
  { title: 'STATE' },
];

export function mountRows(mounts: readonly MountStatus[]): string[][] {
  return mounts.map((mount) => [
    printable(mount.dir),
    printable(mount.reference),
    shortDigest(mount.digest),
    mount.transport,
    mount.writable ? 'rw' : 'ro',
    localMinute(mount.mountedAt / 1000),
    stateOf(mount),
  ]);
}

function stateOf({ alive, daemon, pid, error }: MountStatus): string {
  if (alive) return daemon ? `served by the daemon (${pid})` : `served by ${pid}`;
  if (error !== undefined) return `not made again: ${printable(error.split('\n')[0] ?? '')}`;
  return daemon ? 'dead: the daemon makes it again, peel umount clears it' : 'dead: peel umount clears it';
}
