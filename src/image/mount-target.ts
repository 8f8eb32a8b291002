import { lstat, readdir, realpath } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { errorCode } from '../layer/errors.ts';
import { ImageError } from './errors.ts';
import { mountsAt, readMountInfo } from './mountinfo.ts';

/**
 * The absolute path of a directory named for a mount, links in the way resolved. Does not look into the directory itself, which
 * may be a mount that no longer answers. Errors: ERR_MOUNT_TARGET when the way to it does not exist, with `hint` at the end.
 */
export async function mountPath(dir: string, hint = ''): Promise<string> {
  const absolute = resolve(dir);
  if (absolute === '/') return absolute;
  try {
    const path = join(await realpath(dirname(absolute)), basename(absolute));
    const mounted = mountsAt(await readMountInfo(), path).length > 0;
    return mounted ? path : await realpath(path);
  } catch (cause) {
    throw targetError(absolute, cause, hint);
  }
}

/** Returns `mountPath(dir)` of an empty directory that nothing is mounted on. Errors: ERR_MOUNT_TARGET saying what is wrong with it. */
export async function checkMountTarget(dir: string): Promise<string> {
  const path = await mountPath(dir, ': create the directory first');
  if (mountsAt(await readMountInfo(), path).length > 0) {
    throw new ImageError('ERR_MOUNT_TARGET', `${path} is already mounted (peel umount ${shellWord(path)} frees it)`);
  }
  let names: string[];
  try {
    if (!(await lstat(path)).isDirectory()) throw new ImageError('ERR_MOUNT_TARGET', `${path} is not a directory`);
    names = await readdir(path);
  } catch (cause) {
    throw targetError(path, cause, '');
  }
  if (names.length > 0)
    throw new ImageError(
      'ERR_MOUNT_TARGET',
      `${path} is not empty (it has ${names.length === 1 ? 'one entry' : `${names.length} entries`}): mount on an empty directory`,
    );
  return path;
}

function targetError(path: string, cause: unknown, hint: string): ImageError {
  if (cause instanceof ImageError) return cause;
  const code = errorCode(cause);
  // What is not UTF-8 on a command line arrives as U+FFFD.
  if (code === 'ENOENT' && path.includes('\ufffd'))
    return new ImageError('ERR_MOUNT_TARGET', `${path}: only directories with a name in UTF-8 can be named here`, {
      cause,
    });
  if (code === 'ENOENT') return new ImageError('ERR_MOUNT_TARGET', `${path} does not exist${hint}`, { cause });
  if (code === 'ENOTDIR') return new ImageError('ERR_MOUNT_TARGET', `${path} is not a directory`, { cause });
  return new ImageError('ERR_MOUNT_TARGET', `${path} cannot be used as a mountpoint: ${code ?? String(cause)}`, {
    cause,
  });
}

/** `path` as one word of a shell's command line. */
function shellWord(path: string): string {
  return /^[\w@%+=:,./-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`;
}
