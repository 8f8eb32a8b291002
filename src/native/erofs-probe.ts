// Whether this kernel's EROFS can be trusted with devices that may fail: kernels before "erofs: set fileio bio failed in
// short read case" keep zeros in the page cache where a read came back short, wrong bytes for everybody after. Release
// numbers do not tell, distributions backport; so an image whose device ends inside a file's last block is tried.
import { mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { type DetachedMount, erofsMount } from './mounts.ts';

export interface ProbeResult {
  readonly supported: boolean;
  /** What was found, as a sentence without a full stop. */
  readonly reason: string;
}

const block = 512;
const rootNid = 40;
const fileNid = 44;

/**
 * Mounts a tiny image made in a new folder of `dir`, reads a file through the mount's fd and leaves nothing behind. `dir`
 * must be on the filesystem that shall hold the trees: EROFS refuses images on some. Never rejects.
 */
export async function probeErofs(dir: string): Promise<ProbeResult> {
  let folder: string | undefined;
  let mount: DetachedMount | undefined;
  try {
    folder = await mkdtemp(path.join(dir, '.probe-'));
    const source = path.join(folder, 'image');
    const device = path.join(folder, 'device');
    await writeFile(source, probeImage());
    await writeFile(device, Buffer.alloc(2 * block - 100, 'x'));
    mount = await erofsMount({ source, devices: [device], directIo: false, noSuidDev: true });
    const whole = await readAt(`${mount.path}/f`, 0).catch((error: unknown) => error);
    const cut = await readAt(`${mount.path}/f`, block).catch((error: unknown) => error);
    // Both blocks are on one page: the whole read fails where the short one is noticed.
    if (isEio(cut) && (isEio(whole) || isContent(whole))) {
      return { supported: true, reason: 'EROFS answers an error for a device that ends early' };
    }
    return { supported: false, reason: 'EROFS of this kernel answers zeros for a device that ends early' };
  } catch (error) {
    return { supported: false, reason: error instanceof Error ? error.message : String(error) };
  } finally {
    mount?.close();
    if (folder !== undefined) await rm(folder, { recursive: true, force: true }).catch(() => {});
  }
}

async function readAt(file: string, position: number): Promise<Buffer> {
  const handle = await open(file, 'r');
  try {
    const { bytesRead, buffer } = await handle.read(Buffer.alloc(block), 0, block, position);
    return buffer.subarray(0, bytesRead);
  } finally {
    await handle.close();
  }
}

function isEio(value: unknown): boolean {
  return value instanceof Error && 'code' in value && value.code === 'EIO';
}

function isContent(value: unknown): boolean {
  return Buffer.isBuffer(value) && value.equals(Buffer.alloc(block, 'x'));
}

/** Superblock, one device slot, a root directory with the file `f`: two blocks of device 1. */
function probeImage(): Buffer {
  const image = Buffer.alloc(3072);
  const superblock = image.subarray(1024);
  superblock.writeUInt32LE(0xe0f5e1e2, 0); // magic
  superblock.writeUInt8(9, 12); // blocks of 512
  superblock.writeUInt16LE(rootNid, 14);
  superblock.writeBigUInt64LE(2n, 16); // inodes
  superblock.writeUInt32LE(6, 36); // blocks
  superblock.writeUInt32LE(0x4 | 0x8, 80); // chunked files, device table
  superblock.writeUInt16LE(1, 86); // devices
  superblock.writeUInt16LE(9, 88); // device table at 9 * 128
  image.writeUInt32LE(2, 9 * 128 + 64); // blocks of the device

  const names = [
    { name: '.', nid: rootNid, type: 2 },
    { name: '..', nid: rootNid, type: 2 },
    { name: 'f', nid: fileNid, type: 1 },
  ];
  const directory = Buffer.alloc(names.length * 12 + 4);
  let nameAt = names.length * 12;
  for (const [i, entry] of names.entries()) {
    directory.writeBigUInt64LE(BigInt(entry.nid), i * 12);
    directory.writeUInt16LE(nameAt, i * 12 + 8);
    directory.writeUInt8(entry.type, i * 12 + 10);
    nameAt += directory.write(entry.name, nameAt);
  }
  writeInode(image, rootNid, { layout: 2, mode: 0o40555, size: directory.length, u: 0, nlink: 2 });
  directory.copy(image, rootNid * 32 + 64);
  writeInode(image, fileNid, { layout: 4, mode: 0o100444, size: 2 * block, u: 0x20, nlink: 1 });
  for (let i = 0; i < 2; i++) {
    const at = fileNid * 32 + 64 + i * 8;
    image.writeUInt16LE(1, at + 2); // device
    image.writeUInt32LE(i, at + 4); // block
  }
  return image;
}

interface InodeFields {
  readonly layout: number;
  readonly mode: number;
  readonly size: number;
  readonly u: number;
  readonly nlink: number;
}

function writeInode(image: Buffer, nid: number, inode: InodeFields): void {
  const at = nid * 32;
  image.writeUInt16LE(1 | (inode.layout << 1), at);
  image.writeUInt16LE(inode.mode, at + 4);
  image.writeBigUInt64LE(BigInt(inode.size), at + 8);
  image.writeUInt32LE(inode.u, at + 16);
  image.writeUInt32LE(nid, at + 20);
  image.writeUInt32LE(inode.nlink, at + 44);
}
