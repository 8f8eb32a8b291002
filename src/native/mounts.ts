import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, constants, existsSync, openSync } from 'node:fs';
import { addon } from './addon.ts';

export interface FuseMountOptions {
  /** An open /dev/fuse, see openFuseDevice(). */
  readonly fd: number;
  /** Users other than the mounting one may enter. */
  readonly allowOther: boolean;
}

export interface ErofsMountOptions {
  /** Path of the metadata image. */
  readonly source: string;
  /** Paths of the devices in the order of the image's device table. */
  readonly devices: readonly string[];
  /** Read the devices with O_DIRECT, so that their pages are not cached a second time. */
  readonly directIo: boolean;
  /** nosuid and nodev; not for what an overlay of a container is made of. */
  readonly noSuidDev: boolean;
}

export interface OverlayMountOptions {
  /** Topmost first. */
  readonly lower: readonly string[];
  /** Writable directories on one filesystem; without them the mount is read-only. */
  readonly upper?: string | undefined;
  readonly work?: string | undefined;
  readonly noSuidDev: boolean;
}

/** What native/src/binding/mounts.cpp exports. */
interface Native {
  mountFuse(fd: number, allowOther: boolean, readOnly: boolean): Promise<number>;
  mountErofs(source: string, devices: readonly string[], directIo: boolean, noSuidDev: boolean): Promise<number>;
  mountOverlay(lower: readonly string[], upper: string, work: string, noSuidDev: boolean): Promise<number>;
  mountAttach(fd: number, target: string): Promise<void>;
  mountUnmount(target: string, detach: boolean): Promise<void>;
  mountFdSocket(): [ours: number, theirs: number];
  mountReceiveFd(socket: number): Promise<number>;
}

const native = (): Native => addon() as Native;

/**
 * A mount that is attached nowhere: `/proc/self/fd/<fd>/…` reaches it from this process, nothing shows in any mount
 * table, and it ends with the last user of its files. All mount calls reject with an errno code; the message has what
 * the kernel's filesystem said.
 */
export class DetachedMount {
  readonly fd: number;
  #open = true;

  constructor(fd: number) {
    this.fd = fd;
  }

  /** `/proc/self/fd/<fd>`: for calls of this process, the kernel's own opening of an EROFS device included. */
  get path(): string {
    return `/proc/self/fd/${this.fd}`;
  }

  /** Puts the mount at a directory and closes the fd. `target` itself is never followed as a symlink. */
  async attach(target: string): Promise<void> {
    try {
      await native().mountAttach(this.fd, target);
    } finally {
      this.close();
    }
  }

  /** Lets go of a mount that was not attached. Idempotent. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    closeSync(this.fd);
  }
}

/** ENOENT or ENODEV without the fuse module, EACCES or EPERM where the device is not for this user. */
export function openFuseDevice(): number {
  return openSync('/dev/fuse', constants.O_RDWR);
}

/** A new connection and its mount, attached nowhere. The fd is the caller's. Rejects as `openFuseDevice` and `fuseMount`. */
export async function newFuseMount(o: Omit<FuseMountOptions, 'fd'>): Promise<{ fd: number; mount: DetachedMount }> {
  const fd = openFuseDevice();
  try {
    return { fd, mount: await fuseMount({ ...o, fd }) };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** A read-only FUSE mount with default_permissions, nosuid and nodev. Needs CAP_SYS_ADMIN. */
export async function fuseMount(o: FuseMountOptions): Promise<DetachedMount> {
  return new DetachedMount(await native().mountFuse(o.fd, o.allowOther, true));
}

export async function erofsMount(o: ErofsMountOptions): Promise<DetachedMount> {
  return new DetachedMount(await native().mountErofs(o.source, o.devices, o.directIo, o.noSuidDev));
}

export async function overlayMount(o: OverlayMountOptions): Promise<DetachedMount> {
  return new DetachedMount(await native().mountOverlay(o.lower, o.upper ?? '', o.work ?? '', o.noSuidDev));
}

/** umount2 without following a symlink; `detach` takes it out of the tree at once, whoever still uses it. */
export async function unmount(target: string, o: { readonly detach: boolean }): Promise<void> {
  await native().mountUnmount(target, o.detach);
}

/** Where distributions put the set-uid helper that mounts for ordinary users; undefined when it is not installed. */
export function fusermountPath(): string | undefined {
  return [
    '/usr/bin/fusermount3',
    '/bin/fusermount3',
    '/usr/local/bin/fusermount3',
    '/run/wrappers/bin/fusermount3',
  ].find((path) => existsSync(path));
}

/**
 * Mounts at `target` through fusermount3 and returns the fd of /dev/fuse. Read-only, default_permissions; nosuid and
 * nodev are the helper's own rule. Rejects with ERR_FUSERMOUNT and the helper's words.
 */
export async function fuseMountUnprivileged(target: string): Promise<number> {
  const [ours, theirs] = native().mountFdSocket();
  try {
    const options = 'ro,default_permissions,fsname=peel,subtype=peel';
    let child: ChildProcess;
    try {
      child = fusermount(['-o', options, '--', target], theirs);
    } finally {
      // Ours alone would keep the socket open and recvmsg waiting when the helper fails.
      closeSync(theirs);
    }
    const failed = helperFailed(child);
    const received = await native()
      .mountReceiveFd(ours)
      .catch(() => undefined);
    const message = await failed;
    if (received !== undefined && message === undefined) return received;
    if (received !== undefined) closeSync(received);
    throw helperError(message ?? 'sent no file descriptor');
  } finally {
    closeSync(ours);
  }
}

/** fusermount3 -u; `detach` as in unmount(). Rejects with ERR_FUSERMOUNT. */
export async function unmountUnprivileged(target: string, o: { readonly detach: boolean }): Promise<void> {
  const message = await helperFailed(fusermount([o.detach ? '-uz' : '-u', '--', target]));
  if (message !== undefined) throw helperError(message);
}

function fusermount(args: readonly string[], socket?: number): ChildProcess {
  const path = fusermountPath();
  if (path === undefined) throw helperError('is not installed (Debian: apt-get install fuse3)');
  return spawn(path, args, {
    stdio: ['ignore', 'ignore', 'pipe', socket ?? 'ignore'],
    // The helper is set-uid root: it gets nothing of our environment.
    env: socket === undefined ? {} : { _FUSE_COMMFD: '3' },
  });
}

/** Undefined when the helper ended well, else what it said. */
async function helperFailed(child: ChildProcess): Promise<string | undefined> {
  let text = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    text += chunk.toString();
  });
  return new Promise((resolve) => {
    child.on('error', (error) => resolve(error.message));
    child.on('close', (code, signal) =>
      resolve(code === 0 ? undefined : text.trim() || `ended with ${signal ?? `exit code ${code}`}`),
    );
  });
}

function helperError(message: string): Error {
  const text = message.replace(/^fusermount3?: /, '');
  return Object.assign(new Error(`fusermount3: ${text}`), { code: 'ERR_FUSERMOUNT' });
}
