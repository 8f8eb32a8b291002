// Attributes of directories in a tree that somebody unpacked: nothing in it is trusted, and no link of it is followed.
import type { BigIntStats } from 'node:fs';
import { chmod, lchown, lstat, rm } from 'node:fs/promises';
import { errorCode } from '../layer/errors.ts';
import { getXattr, listXattrs, setTimes, setXattr } from '../native/sys.ts';
import { type DirectoryAttributes, type LowerNode, opaqueMark, steersOverlay } from '../tree/lower-node.ts';
import { type ByteString, byteStringFrom, bytesOf } from '../util/byte-string.ts';

interface LookOptions {
  readonly userXattr: boolean;
  readonly signal: AbortSignal;
}

/** Attributes that a file system, or an ordinary user, may refuse: containers see the directory without them. */
const refusals: ReadonlySet<string | undefined> = new Set(['ENOTSUP', 'EOPNOTSUPP', 'EPERM']);
const billion = 1_000_000_000n;

/**
 * What stands at these clean paths, parents first, below `dir`, one answer for each; undefined where nothing is. Nobody may change the tree
 * meanwhile. Errors: errno codes, ENAMETOOLONG for a path that is too deep; the signal's reason.
 */
export async function directoryNodes(
  dir: string,
  paths: readonly ByteString[],
  options: LookOptions,
): Promise<(LowerNode | undefined)[]> {
  const directories = new Set<ByteString>();
  const found: (LowerNode | undefined)[] = [];
  for (const path of paths) {
    options.signal.throwIfAborted();
    const isReachable = path === '' || directories.has(parentOf(path));
    const node = isReachable ? await nodeAt(placeOf(dir, path), options) : undefined;
    if (node?.kind === 'directory') directories.add(path);
    found.push(node);
  }
  return found;
}

/** Of a directory of the tree, all at once. Errors: errno codes. */
export async function setDirectoryAttributes(
  dir: string,
  path: ByteString,
  { mode, uid, gid, mtime, mtimeNs, xattrs }: DirectoryAttributes,
): Promise<void> {
  const place = placeOf(dir, path);
  await lchown(place, uid, gid);
  for (const [name, value] of xattrs) {
    try {
      setXattr(place, bytesOf(name), value);
    } catch (error) {
      if (!refusals.has(errorCode(error))) throw error;
    }
  }
  await chmod(place, mode);
  setTimes(place, mtime, mtimeNs);
}

/** With all that is in it; nothing where it is gone. Errors: errno codes. */
export async function removeDirectory(dir: string, path: ByteString): Promise<void> {
  await rm(placeOf(dir, path), { recursive: true, force: true });
}

/** The directory above, '' for the root. */
export function parentOf(path: ByteString): ByteString {
  return path.slice(0, Math.max(path.lastIndexOf('/'), 0)) as ByteString;
}

function placeOf(dir: string, path: ByteString): Buffer {
  return path === '' ? Buffer.from(dir) : Buffer.concat([Buffer.from(`${dir}/`), bytesOf(path)]);
}

async function nodeAt(place: Buffer, { userXattr }: LookOptions): Promise<LowerNode | undefined> {
  const stats = await lstat(place, { bigint: true }).catch((error: unknown) => {
    if (errorCode(error) === 'ENOENT') return undefined;
    throw error;
  });
  if (stats === undefined) return undefined;
  if (!stats.isDirectory()) {
    if (stats.isCharacterDevice() && stats.rdev === 0n) return { kind: 'whiteout' };
    return { kind: 'other', type: typeOf(stats) };
  }
  const all = listXattrs(place).map((name) => [byteStringFrom(name), name] as const);
  const opaque = all.find(([name]) => name === opaqueMark({ userXattr }));
  const kept = all.filter(([name]) => !steersOverlay(name, { userXattr }));
  return {
    kind: 'directory',
    opaque: opaque !== undefined && getXattr(place, opaque[1]).toString('latin1') === 'y',
    attributes: {
      mode: Number(stats.mode) & 0o7777,
      uid: Number(stats.uid),
      gid: Number(stats.gid),
      ...timeOf(stats),
      xattrs: new Map(kept.map(([name, raw]) => [name, getXattr(place, raw)])),
    },
  };
}

function timeOf({ mtimeNs }: BigIntStats): Pick<DirectoryAttributes, 'mtime' | 'mtimeNs'> {
  const within = ((mtimeNs % billion) + billion) % billion;
  return { mtime: Number((mtimeNs - within) / billion), mtimeNs: Number(within) };
}

function typeOf(stats: BigIntStats): Extract<LowerNode, { kind: 'other' }>['type'] {
  if (stats.isSymbolicLink()) return 'symlink';
  if (stats.isCharacterDevice()) return 'char';
  if (stats.isBlockDevice()) return 'block';
  return stats.isFIFO() ? 'fifo' : 'file';
}
