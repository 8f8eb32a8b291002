// Taking mounts away, whoever serves them and whether or not he still lives.
import { realpath, rm } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { dirname, join, resolve } from 'node:path';
import { errorCode, errorMessage } from '../layer/errors.ts';
import type { MountRow, MountTable } from '../state/mounts.ts';
import { ImageError } from './errors.ts';
import type { MountSystem } from './mount-system.ts';
import { layerMountsDir } from './layer-mounts-dir.ts';
import { mountPath } from './mount-target.ts';
import { mountsAt, readMountInfo } from './mountinfo.ts';
import type { MountInfo } from './mountinfo.ts';
import { bootId, isRunning } from './process-identity.ts';
import { removeMountDir } from './writable.ts';

export interface UmountDeps {
  readonly mounts: MountTable;
  readonly system: MountSystem;
  readonly root: string;
}

export interface MountStatus extends MountRow {
  /**
   * `serving`; `dead`: the process is gone and the directory is still mounted; `gone`: unmounted, the process is finishing;
   * `waiting`: not mounted, the daemon makes it again when it starts, or tells in `error` why it could not.
   */
  readonly state: 'serving' | 'dead' | 'gone' | 'waiting';
  /** Whether the process that serves it runs. */
  readonly alive: boolean;
}

export interface UmountOptions {
  /** Detach now, also when it is in use; it ends with its last user. */
  readonly detach?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

const processEndMs = 15_000;

/**
 * Unmounts `dir`, waits for the process behind it, and clears away what a killed one left.
 * Errors: ERR_MOUNT_UNKNOWN when nothing of peel's is mounted there; ERR_MOUNT_BUSY when it is in use, or a layer of containerd's snapshots.
 */
export async function umount(
  deps: UmountDeps,
  dir: string,
  options: UmountOptions = {},
): Promise<{ readonly dir: string }> {
  const path = await placeOf(deps.mounts, dir);
  const rows = deps.mounts.at(path);
  const mounted = mountsAt(await readMountInfo(), path);
  const top = mounted.at(-1);
  const foreign = top !== undefined && !isOurs(top, rows);
  if (foreign || (rows.length === 0 && top === undefined)) {
    const what = foreign ? `is mounted, but not by peel (${top.fsType})` : 'is not mounted';
    throw new ImageError('ERR_MOUNT_UNKNOWN', `${path} ${what}`);
  }
  if (rows.length === 0) await refuseLayer(deps.root, path);
  const alive = await anyRunning(rows);
  // Over a mount whose server was killed there may be a second one; both were ours.
  const ours = mounted.length - 1 - mounted.findLastIndex((mount) => !isOurs(mount, rows));
  const count = Math.min(ours, Math.max(rows.length, 1));
  for (let i = 0; i < count; i += 1) await takeAway(deps.system, path, { detach: options.detach === true || !alive });
  for (const row of rows) {
    // A detached mount may be used for days; its process puts everything away when it ends.
    if (options.detach === true && alive) continue;
    await waitForEnd(deps.mounts, row, options.signal);
    await clearAway(deps, row);
  }
  return { dir: path };
}

/** The kernel lets it go while containers run: they would keep it, and the next ones find an empty directory. */
async function refuseLayer(root: string, path: string): Promise<void> {
  const layers = layerMountsDir(root);
  if (dirname(path) !== (await realpath(layers).catch(() => layers))) return;
  const what = "is a layer of containerd's snapshots, which goes with the last image that has it";
  throw new ImageError('ERR_MOUNT_BUSY', `${path} ${what} (\`ctr images rm\`, \`crictl rmi\`)`);
}

/** Where a mount waits to be made again, the directory itself may be gone. */
async function placeOf(mounts: MountTable, dir: string): Promise<string> {
  const path = resolve(dir);
  return mounts.at(path).length > 0 ? path : await mountPath(dir);
}

/** What a process leaves that ended without putting it away. */
async function clearAway({ root, mounts }: Pick<UmountDeps, 'mounts' | 'root'>, row: MountRow): Promise<void> {
  await removeMountDir(join(root, 'mounts', row.id));
  if (row.log !== undefined) await rm(row.log, { force: true });
  try {
    mounts.delete(row.id);
  } catch (error) {
    // What is gone is gone: on a full disk the row stays until somebody lists the mounts again.
    if (errorCode(error) !== 'SQLITE_FULL') throw error;
  }
}

/** What is recorded as mounted, with what is left of it. What is left of mounts that ended without their process is cleared away. */
export async function listMounts(deps: Pick<UmountDeps, 'mounts' | 'root'>): Promise<MountStatus[]> {
  const mounted = await readMountInfo();
  const boot = await bootId();
  const found: MountStatus[] = [];
  for (const row of deps.mounts.list()) {
    const there = mountsAt(mounted, row.dir).some((mount) => isOurs(mount, [row]));
    const alive = await isRunning(row);
    const isWaiting = !there && !alive && row.daemon && (row.boot !== boot || row.error !== undefined);
    if (!there && !alive && !isWaiting) {
      // One that cannot be put away must not hide the others.
      await clearAway(deps, row).catch(() => {});
      continue;
    }
    found.push({ ...row, alive, state: isWaiting ? 'waiting' : there ? (alive ? 'serving' : 'dead') : 'gone' });
  }
  return found;
}

async function anyRunning(rows: readonly MountRow[]): Promise<boolean> {
  for (const row of rows) if (await isRunning(row)) return true;
  return false;
}

/** Whether what is seen at the directory is ours. Also of a mount that is in no table: its state directory is another one, or was deleted. */
export function isOurs({ fsType, source }: MountInfo, rows: readonly MountRow[]): boolean {
  if (fsType === 'fuse.peel' || source === 'peel') return true;
  // The kernel is given a short name for a path that is too long for it.
  return fsType === 'erofs' && (isTree(source) || rows.some(({ transport }) => transport === 'kernel'));
}

function isTree(path: string): boolean {
  return /\/trees\/sha256\/[0-9a-f]{64}\.erofs$/.test(path);
}

async function takeAway(system: MountSystem, path: string, options: { detach: boolean }): Promise<void> {
  try {
    await system.unmount(path, options);
  } catch (cause) {
    const code = errorCode(cause);
    if (code === 'EINVAL' || code === 'ENOENT') return;
    if (code === 'EBUSY') {
      throw new ImageError(
        'ERR_MOUNT_BUSY',
        `${path} is in use: a process has files open or its working directory there`,
        { cause },
      );
    }
    if (code === 'EPERM' || code === 'EACCES')
      throw new ImageError('ERR_MOUNT_PERMISSION', `not allowed to unmount ${path}`, { cause });
    throw new ImageError('ERR_MOUNT_PROCESS', `cannot unmount ${path}: ${errorMessage(cause)}`, { cause });
  }
}

/**
 * The process ends by itself once its mount is gone, and the daemon puts the mount away; nothing is killed.
 * Errors: ERR_MOUNT_PROCESS when that does not happen.
 */
async function waitForEnd(mounts: MountTable, row: MountRow, signal: AbortSignal | undefined): Promise<void> {
  if (row.pid === process.pid && !row.daemon) return;
  const deadline = performance.now() + processEndMs;
  while ((await isRunning(row)) && (!row.daemon || mounts.get(row.id) !== undefined)) {
    if (performance.now() > deadline) {
      throw new ImageError(
        'ERR_MOUNT_PROCESS',
        `${row.dir} is unmounted, but ${row.daemon ? `the daemon (process ${row.pid}) has not put it away` : `process ${row.pid} that served it has not ended`}${row.log === undefined ? '' : ` (see ${row.log})`}`,
      );
    }
    await delay(20, undefined, { signal });
  }
}
