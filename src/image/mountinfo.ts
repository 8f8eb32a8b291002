import { open } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';

/** One line of /proc/self/mountinfo (proc(5)). */
export interface MountInfo {
  readonly id: number;
  readonly parent: number;
  /** Where it is attached, absolute. */
  readonly dir: string;
  readonly fsType: string;
  readonly source: string;
  readonly options: readonly string[];
  readonly superOptions: readonly string[];
}

/** Stays open, so that it can be read where no more files may be opened. */
let own: Promise<FileHandle> | undefined;
let lastRead: Promise<unknown> = Promise.resolve();

/** Reading this never touches a mount, so it cannot hang on a dead one. In order of mounting: the last one at a directory is seen. */
export async function readMountInfo(): Promise<MountInfo[]> {
  own ??= open('/proc/self/mountinfo');
  own.catch(() => (own = undefined));
  const file = await own;
  // One after the other: the kernel goes on with the next mount only where the read before ended.
  const reading = lastRead.then(() => readFromStart(file));
  lastRead = reading.catch(() => {});
  return parseMountInfo(await reading);
}

async function readFromStart(file: FileHandle): Promise<string> {
  const parts: Buffer[] = [];
  for (let at = 0; ; ) {
    const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(64 << 10), { position: at });
    if (bytesRead === 0) return Buffer.concat(parts).toString('utf8');
    parts.push(buffer.subarray(0, bytesRead));
    at += bytesRead;
  }
}

export function parseMountInfo(text: string): MountInfo[] {
  const found: MountInfo[] = [];
  for (const line of text.split('\n')) {
    const separator = line.indexOf(' - ');
    if (separator < 0) continue;
    const [id, parent, , , dir, options] = line.slice(0, separator).split(' ');
    const [fsType, source, superOptions] = line.slice(separator + 3).split(' ');
    if (dir === undefined || fsType === undefined) continue;
    found.push({
      id: Number(id),
      parent: Number(parent),
      dir: unescapeOctal(dir),
      fsType,
      source: unescapeOctal(source ?? ''),
      options: (options ?? '').split(','),
      superOptions: (superOptions ?? '').split(','),
    });
  }
  return found;
}

export function mountsAt(mounts: readonly MountInfo[], dir: string): MountInfo[] {
  return mounts.filter((mount) => mount.dir === dir);
}

/** As `mountsAt` for all directories, for those who ask of many. */
export function mountsByDir(mounts: readonly MountInfo[]): ReadonlyMap<string, readonly MountInfo[]> {
  const byDir = new Map<string, MountInfo[]>();
  for (const mount of mounts) {
    const there = byDir.get(mount.dir);
    if (there === undefined) byDir.set(mount.dir, [mount]);
    else there.push(mount);
  }
  return byDir;
}

/** The kernel writes space, tab, newline and backslash as three octal digits. */
function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}
