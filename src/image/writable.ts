// A writable layer over a read-only tree: overlayfs with its upper directory under the state directory, or where the person says.
import { chmod, chown, readdir, realpath, rm, statfs } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { errorCode, errorMessage } from '../layer/errors.ts';
import { setTimes, setXattr } from '../native/sys.ts';
import type { TarEntry } from '../tar/entry.ts';
import { type ByteString, bytesOf } from '../util/byte-string.ts';
import { makeDirectory } from '../util/make-directory.ts';
import { ImageError } from './errors.ts';
import type { MountSystem } from './mount-system.ts';

/** `--rw`; with `upper` the changes stay in that directory (`DIR/upper`, beside `DIR/work`), without they go with the mount. */
export interface WritableOptions {
  readonly upper: string | undefined;
}

export interface WritablePaths {
  /** Where the tree is mounted for a moment, until the overlay holds it. */
  readonly lower: string;
  readonly upper: string;
  readonly work: string;
}

const overlayfsMagic = 0x794c7630;

/** A root that no layer describes. */
const bareRoot = { uid: 0, gid: 0, mode: 0o755, mtime: 0, mtimeNs: 0, xattrs: new Map<ByteString, Uint8Array>() };

/** Errors: ERR_MOUNT_PERMISSION, ERR_MOUNT_UPPER. */
export async function prepareWritable(mountDir: string, options: WritableOptions, uid: number): Promise<WritablePaths> {
  if (uid !== 0) {
    throw new ImageError(
      'ERR_MOUNT_PERMISSION',
      'a writable mount (--rw) needs root: mount read-only, or run peel as root',
    );
  }
  const named = options.upper === undefined ? mountDir : resolve(options.upper);
  try {
    await makeDirectory(named, 0o700);
    // One name for one place, whatever links led to it: it is looked for when somebody else wants it.
    const changes = await realpath(named);
    const paths = { lower: join(mountDir, 'lower'), upper: join(changes, 'upper'), work: join(changes, 'work') };
    for (const path of Object.values(paths)) await makeDirectory(path, 0o700);
    if ((await statfs(paths.upper)).type === overlayfsMagic) {
      throw new ImageError(
        'ERR_MOUNT_UPPER',
        `${named} is on overlayfs, which cannot hold the changes of another overlay: choose another place with --upper`,
      );
    }
    return paths;
  } catch (cause) {
    if (cause instanceof ImageError) throw cause;
    throw new ImageError('ERR_MOUNT_UPPER', `${named} cannot hold changes: ${errorMessage(cause)}`, { cause });
  }
}

/**
 * An overlay's root looks like its upper directory, so a new one gets what the image says of its root; one with changes in it keeps
 * what it has. Errors: ERR_MOUNT_UPPER.
 */
export async function dressUpper(upper: string, root: TarEntry | undefined): Promise<void> {
  try {
    if ((await readdir(upper)).length > 0) return;
    const { uid, gid, mode, mtime, mtimeNs, xattrs } = root ?? bareRoot;
    await chown(upper, uid, gid);
    for (const [name, value] of xattrs) setXattr(upper, bytesOf(name), value);
    await chmod(upper, mode);
    setTimes(upper, mtime, mtimeNs);
  } catch (cause) {
    throw new ImageError('ERR_MOUNT_UPPER', `cannot make ${upper} look like the image's root: ${errorMessage(cause)}`, {
      cause,
    });
  }
}

/** Puts the overlay at `dir` and takes the tree away from its place of a moment. Errors: ERR_MOUNT_UPPER; the tree is unmounted then. */
export async function putOverlay(system: MountSystem, dir: string, paths: WritablePaths): Promise<void> {
  try {
    await system.overlay({ dir, ...paths });
  } catch (cause) {
    const hint =
      errorCode(cause) === 'EINVAL' ? ' (its file system may lack what overlayfs needs: xattrs and d_type)' : '';
    throw new ImageError(
      'ERR_MOUNT_UPPER',
      `cannot put a writable layer with changes in ${paths.upper} on ${dir}: ${errorMessage(cause)}${hint}`,
      { cause },
    );
  } finally {
    await system.unmount(paths.lower, { detach: true });
  }
}

/** What a mount leaves under the state directory; nothing that a person named. */
export async function removeMountDir(mountDir: string): Promise<void> {
  await rm(mountDir, { recursive: true, force: true });
}
