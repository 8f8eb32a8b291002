import { constants } from 'node:fs';
import { chmod, type FileHandle, lchown, link, lstat, mkdir, open, readlink, symlink, unlink } from 'node:fs/promises';
import { mknod, setTimes, setXattr } from '../native/sys.ts';
import type { NodeType, TreeNode } from '../tree/tree.ts';
import { type ByteString, bytesOf, displayBytes } from '../util/byte-string.ts';
import { CommandError } from './errors.ts';
import type { Piece } from './read-ahead.ts';
import type { WalkEntry } from './walk.ts';

const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW, O_RDONLY, O_DIRECTORY } = constants;
const formats: Partial<Record<NodeType, number>> = {
  fifo: constants.S_IFIFO,
  char: constants.S_IFCHR,
  block: constants.S_IFBLK,
};

/** Makes one entry at a time inside a directory that is held open. Existing files are replaced, directories are merged. */
export class EntryWriter {
  readonly skipped: string[] = [];
  /** Bytes of file content written so far. */
  bytes = 0;
  readonly #asRoot: boolean;
  /** Where the first name of a file with several names was made: its directory's own path and name. */
  readonly #firstNames = new Map<TreeNode, Buffer>();

  constructor(options: { asRoot: boolean }) {
    this.#asRoot = options.asRoot;
  }

  /** Makes the directory, or takes an existing one that is no symlink. The caller closes it after `finishDirectory`. */
  async directory(parent: FileHandle, { name, path }: WalkEntry): Promise<FileHandle> {
    const at = inside(parent, name);
    try {
      await mkdir(at, { mode: 0o700 });
    } catch (error) {
      if (codeOf(error) !== 'EEXIST') throw error;
    }
    try {
      return await open(at, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    } catch (cause) {
      if (codeOf(cause) !== 'ENOTDIR' && codeOf(cause) !== 'ELOOP') throw cause;
      throw new CommandError(`${displayBytes(path)}: the destination has something here that is not a directory`, {
        code: 'ENOTDIR',
        cause,
      });
    }
  }

  /** Attributes, after the last entry was made in it. */
  async finishDirectory(dir: FileHandle, node: TreeNode): Promise<void> {
    await this.#attributes(Buffer.from(`/proc/self/fd/${dir.fd}/.`), node);
  }

  async entry(parent: FileHandle, { name, path, node }: WalkEntry, pieces: AsyncIterable<Piece>): Promise<void> {
    const at = inside(parent, name);
    await makeRoom(at, path);
    const first = this.#firstNames.get(node);
    if (first) {
      await link(first, at);
      return;
    }
    if (!(await this.#make(at, path, node, pieces))) return;
    await this.#attributes(at, node);
    if (node.nlink > 1) this.#firstNames.set(node, await lastingPath(parent, name));
  }

  async #make(at: Buffer, path: ByteString, node: TreeNode, pieces: AsyncIterable<Piece>): Promise<boolean> {
    if (node.type === 'file') await this.#file(at, node, pieces);
    else if (node.type === 'symlink') await symlink(bytesOf(node.link), at);
    else if (node.type === 'fifo' || this.#asRoot) {
      mknod(at, (formats[node.type] ?? 0) | 0o600, node.devMajor, node.devMinor);
    } else {
      this.skipped.push(`${displayBytes(path)}: skipped, only root may make a device`);
      return false;
    }
    return true;
  }

  async #file(at: Buffer, node: TreeNode, pieces: AsyncIterable<Piece>): Promise<void> {
    const file = await open(at, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
    try {
      for await (const { offset, bytes } of pieces) {
        await file.write(bytes, 0, bytes.byteLength, offset);
        this.bytes += bytes.byteLength;
      }
      // Also makes the hole at the end of a sparse file.
      await file.truncate(node.size);
    } finally {
      await file.close();
    }
  }

  /** Owner before mode, because chown clears setuid; times last. */
  async #attributes(at: Buffer, node: TreeNode): Promise<void> {
    if (this.#asRoot) {
      await lchown(at, node.uid, node.gid);
      for (const [name, value] of node.xattrs) setXattr(at, bytesOf(name), value);
    }
    // Without its owner a setuid program would run as whoever copied it.
    if (node.type !== 'symlink') await chmod(at, this.#asRoot ? node.mode : node.mode & 0o1777);
    setTimes(at, node.mtime, node.mtimeNs);
  }
}

/** Removes a file that is in the way; a directory is not removed. */
async function makeRoom(at: Buffer, path: ByteString): Promise<void> {
  const existing = await lstat(at).catch((error: unknown) => {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw error;
  });
  if (!existing) return;
  if (existing.isDirectory()) {
    throw new CommandError(`${displayBytes(path)}: the destination has a directory here`, { code: 'EISDIR' });
  }
  await unlink(at);
}

/** A path that still names the file when the directory is closed. It is only linked from, never written to. */
async function lastingPath(dir: FileHandle, name: ByteString): Promise<Buffer> {
  const path = await readlink(`/proc/self/fd/${dir.fd}`, { encoding: 'buffer' });
  return Buffer.concat([path, Buffer.from('/'), bytesOf(name)]);
}

/** `name` inside the open directory, for calls that take a path. */
function inside(dir: FileHandle, name: ByteString): Buffer {
  return Buffer.concat([Buffer.from(`/proc/self/fd/${dir.fd}/`), bytesOf(name)]);
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined;
}
