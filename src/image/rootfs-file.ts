// Reading a file of an unpacked image as a process in a container of it would: whatever links say, nothing outside is looked at.
import { constants } from 'node:fs';
import { lstat, open, readlink } from 'node:fs/promises';
import type { Stats } from 'node:fs';
import { errorCode } from '../layer/errors.ts';
import { byteStringFrom, byteStringFromText, bytesOf } from '../util/byte-string.ts';
import type { ByteString } from '../util/byte-string.ts';
import { ImageError } from './errors.ts';

const { O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants;
/** As many as the kernel follows for one path. */
const maxLinks = 40;
const maxBytes = 16 << 20;

/**
 * The text of a small regular file beneath the directory `rootfs`, at `path` of the image. Undefined when there is no such file, or it is
 * something else. Errors: ERR_IMAGE_CONTENT for one above 16 MiB; those of the file system.
 */
export async function readRootfsFile(rootfs: string, path: string): Promise<string | undefined> {
  const found = await resolveInside(byteStringFromText(rootfs), byteStringFromText(path));
  if (found === undefined) return undefined;
  // Not what may have come there since, and without waiting for the other end of a pipe.
  const file = await open(bytesOf(found), O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  try {
    const { size } = await file.stat();
    if (size > maxBytes) throw new ImageError('ERR_IMAGE_CONTENT', `${path} of the image has ${size} bytes`);
    return await file.readFile('utf8');
  } finally {
    await file.close();
  }
}

/** Where a regular file is; links are followed with `rootfs` as `/`, and `..` ends there. */
async function resolveInside(rootfs: ByteString, path: ByteString): Promise<ByteString | undefined> {
  const ahead = path.split('/').reverse();
  const walked: string[] = [];
  let links = 0;
  let last: Stats | undefined;
  while (ahead.length > 0) {
    const name = ahead.pop() ?? '';
    if (name === '' || name === '.') continue;
    if (name === '..') {
      walked.pop();
      last = undefined;
      continue;
    }
    const here = join(rootfs, [...walked, name]);
    const stats = await lstatOrNothing(here);
    if (stats === undefined) return undefined;
    if (stats.isSymbolicLink()) {
      if (++links > maxLinks) return undefined;
      const target = byteStringFrom(await readlink(bytesOf(here), { encoding: 'buffer' }));
      if (target.startsWith('/')) walked.length = 0;
      ahead.push(...target.split('/').reverse());
    } else {
      walked.push(name);
      last = stats;
    }
  }
  return last?.isFile() === true ? join(rootfs, walked) : undefined;
}

function join(rootfs: ByteString, names: readonly string[]): ByteString {
  return [rootfs, ...names].join('/') as ByteString;
}

async function lstatOrNothing(path: ByteString): Promise<Stats | undefined> {
  try {
    return await lstat(bytesOf(path));
  } catch (error) {
    const code = errorCode(error);
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'ENAMETOOLONG') return undefined;
    throw error;
  }
}
