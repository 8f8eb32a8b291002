// A writable layer over a read-only tree: overlayfs with its upper directory under the state directory, or where the person says.
import { rm, statfs } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { errorCode, errorMessage } from '../layer/errors.ts';
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

/** Errors: ERR_MOUNT_PERMISSION, ERR_MOUNT_UPPER. */
export async function prepareWritable(mountDir: string, options: WritableOptions, uid: number): Promise<WritablePaths> {
  if (uid !== 0) {
    throw new ImageError(
      'ERR_MOUNT_PERMISSION',
      'a writable mount (--rw) needs root: mount read-only, or run peel as root',
    );
  }
  const changes = options.upper === undefined ? mountDir : resolve(options.upper);
  const paths = { lower: join(mountDir, 'lower'), upper: join(changes, 'upper'), work: join(changes, 'work') };
  try {
    for (const path of Object.values(paths)) await makeDirectory(path, 0o700);
    if ((await statfs(paths.upper)).type === overlayfsMagic) {
      throw new ImageError(
        'ERR_MOUNT_UPPER',
        `${changes} is on overlayfs, which cannot hold the changes of another overlay: choose another place with --upper`,
      );
    }
  } catch (cause) {
    if (cause instanceof ImageError) throw cause;
    throw new ImageError('ERR_MOUNT_UPPER', `${changes} cannot hold changes: ${errorMessage(cause)}`, { cause });
  }
  return paths;
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
