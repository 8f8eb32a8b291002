// How containerd has to mount a snapshot.
import { existsSync } from 'node:fs';
import type { SnapshotKind } from '../state/snapshots.ts';
import { SnapshotError } from './errors.ts';

/** As containerd's own: mount(8) in four fields. */
export interface Mount {
  readonly type: string;
  readonly source: string;
  readonly target: string;
  readonly options: readonly string[];
}

/** Where a snapshot's files are. */
export interface SnapshotPlace {
  readonly fs: string;
  readonly work: string;
}

export interface MountedSnapshot {
  readonly key: string;
  readonly kind: Exclude<SnapshotKind, 'committed'>;
  readonly place: SnapshotPlace;
  /** Directories of the snapshots below, topmost first. */
  readonly lowers: readonly string[];
  readonly userXattr: boolean;
  /**
   * Whoever unpacks has to do it through the mount. containerd otherwise writes into the upper directory of an overlay, where a hard link
   * to a file of a lower layer fails.
   */
  readonly throughMount?: boolean | undefined;
}

/** OVL_MAX_STACK. */
const maxLowers = 500;
/** mount(2) takes one page. */
const maxOptionBytes = 4095;

/** Errors: ERR_SNAPSHOT_STATE when the kernel cannot mount so many layers. */
export function mountsOf(snapshot: MountedSnapshot): Mount[] {
  const { kind, place } = snapshot;
  // A layer that an image has twice is one directory, which overlayfs takes once; the upper one hides all that the lower one would show.
  const lowers = [...new Set(snapshot.lowers)];
  const top = lowers[0];
  if (top === undefined) return [bind(place.fs, kind === 'view' ? 'ro' : 'rw')];
  if (kind === 'view' && lowers.length === 1) return [bind(top, 'ro')];
  const upper = kind === 'active' ? [`workdir=${place.work}`, `upperdir=${place.fs}`] : [];
  const options = [
    ...(hasIndexOption() ? ['index=off'] : []),
    ...(snapshot.userXattr ? ['userxattr'] : []),
    // The same to the kernel; containerd finds no upper directory then.
    ...(snapshot.throughMount ? [upper.join(',')] : upper),
    `lowerdir=${lowers.join(':')}`,
  ];
  checkSize({ ...snapshot, lowers }, options);
  return [{ type: 'overlay', source: 'overlay', target: '', options }];
}

function bind(source: string, access: 'ro' | 'rw'): Mount {
  return { type: 'bind', source, target: '', options: [access, 'rbind'] };
}

/** Lower directories on file systems that cannot be exported would otherwise be refused where the kernel's default is `index=on`. */
function hasIndexOption(): boolean {
  return existsSync('/sys/module/overlay/parameters/index');
}

function checkSize({ key, lowers }: MountedSnapshot, options: readonly string[]): void {
  if (lowers.length > maxLowers) {
    throw new SnapshotError(
      'ERR_SNAPSHOT_STATE',
      `snapshot ${JSON.stringify(key)} has ${lowers.length} layers; overlayfs takes ${maxLowers} at most`,
    );
  }
  // containerd goes into the folder that all lower directories have in common, and names them from there.
  const bytes = Buffer.byteLength(options.join(',')) - lowers.length * commonFolder(lowers).length;
  if (bytes > maxOptionBytes) {
    throw new SnapshotError(
      'ERR_SNAPSHOT_STATE',
      `snapshot ${JSON.stringify(key)} has ${lowers.length} layers, whose names take ${bytes} bytes; mount(2) takes ${maxOptionBytes}`,
    );
  }
}

function commonFolder(paths: readonly string[]): string {
  if (paths.length < 2) return '';
  const sorted = paths.toSorted();
  const [first, last] = [sorted[0] ?? '', sorted.at(-1) ?? ''];
  let length = 0;
  while (length < first.length && first[length] === last[length]) length += 1;
  return first.slice(0, first.lastIndexOf('/', length - 1) + 1);
}
