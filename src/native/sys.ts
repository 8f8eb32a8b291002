import { addon } from './addon.ts';

/** A path or name: text, or its bytes where it may not be UTF-8. Never with a NUL. */
export type RawPath = string | Uint8Array;

export interface FsStat {
  /** `f_type`, the filesystem's magic number. */
  readonly type: number;
  /** Bytes that an ordinary user may still write. */
  readonly freeBytes: number;
  readonly totalBytes: number;
}

export interface ExecuteOptions {
  readonly fds?: readonly number[] | undefined;
}

/** Magic numbers of statfs(2) that matter here. */
export const fsType = { tmpfs: 0x01021994, overlay: 0x794c7630, fuse: 0x65735546, erofs: 0xe0f5e1e2 } as const;

/** What native/src/binding/sys.cpp exports. */
interface Native {
  sysLock(fd: number, exclusive: boolean): boolean;
  sysUnlock(fd: number): void;
  sysMknod(path: RawPath, mode: number, major: number, minor: number): void;
  sysGetxattr(path: RawPath, name: RawPath): Buffer;
  sysSetxattr(path: RawPath, name: RawPath, value: Uint8Array): void;
  sysListxattr(path: RawPath): Buffer[];
  sysUtimens(path: RawPath, seconds: number, nanoseconds: number): void;
  sysStatfs(path: RawPath): FsStat;
  sysHashRange(fd: number, start: number, end: number): Promise<Buffer>;
  sysSyncfs(path: RawPath): Promise<void>;
  sysCanDirectIo(path: RawPath): boolean;
  sysUndumpable(): void;
  sysBoundingSet(): bigint;
  sysLimitBoundingSet(keep: bigint): void;
  sysTrimHeap(): void;
  sysExecute(path: RawPath, words: readonly string[], fds: readonly number[]): void;
  sysNotify(address: string, text: string): void;
  sysListenUnix(path: string): number;
}

const native = (): Native => addon() as Native;

// Every function throws an Error with `code` ('ENOENT'), `errno` and `syscall`. None follows a symlink at the end of the
// path, and none may be used on a path that this process serves.

/** flock(2) without waiting; false when another open file holds it. The lock goes with the last close of the fd. */
export function tryLock(fd: number, mode: 'shared' | 'exclusive'): boolean {
  return native().sysLock(fd, mode === 'exclusive');
}

export function unlock(fd: number): void {
  native().sysUnlock(fd);
}

/** `mode` with its file type bits (S_IFCHR, S_IFBLK, S_IFIFO); subject to the umask. */
export function mknod(path: RawPath, mode: number, major: number, minor: number): void {
  native().sysMknod(path, mode, major, minor);
}

/** ENODATA when there is none. */
export function getXattr(path: RawPath, name: RawPath): Buffer {
  return native().sysGetxattr(path, name);
}

export function setXattr(path: RawPath, name: RawPath, value: Uint8Array): void {
  native().sysSetxattr(path, name, value);
}

export function listXattrs(path: RawPath): Buffer[] {
  return native().sysListxattr(path);
}

/** Access and modification time; `seconds` may be negative, `nanoseconds` is 0 to 999 999 999. */
export function setTimes(path: RawPath, seconds: number, nanoseconds: number): void {
  if (!Number.isSafeInteger(seconds)) throw new TypeError(`not a whole number of seconds: ${seconds}`);
  native().sysUtimens(path, seconds, nanoseconds);
}

export function statFs(path: RawPath): FsStat {
  return native().sysStatfs(path);
}

/** sha256 of a file's bytes [start, end), read on a thread of its own; the fd may be closed meanwhile. ENODATA when the file ends before. */
export function hashFileRange(fd: number, start: number, end: number): Promise<Buffer> {
  return native().sysHashRange(fd, start, end);
}

/** Resolves when all that was written to the filesystem that holds `path`, by anybody, is on its disk: as long as that takes. */
export function syncFilesystem(path: RawPath): Promise<void> {
  return native().sysSyncfs(path);
}

/** Whether the file can be read with O_DIRECT in units of 512 bytes, as EROFS with `directio` reads a device. */
export function canDirectIo(path: RawPath): boolean {
  return native().sysCanDirectIo(path);
}

/** No core dump and no ptrace shows this process's credentials. As an ordinary user it also loses /proc/self/fd. */
export function makeUndumpable(): void {
  native().sysUndumpable();
}

/** The most that this process and those it starts can have (capabilities(7)): bit N is capability N. */
export function boundingSet(): bigint {
  return native().sysBoundingSet();
}

/** Takes everything from it that is not in `keep`: what this process becomes or starts can have no more. EPERM where that is not allowed. */
export function limitBoundingSet(keep: bigint): void {
  native().sysLimitBoundingSet(keep);
}

/** Gives the pages of memory that was freed outside of V8 back to the system; some ms. */
export function trimHeap(): void {
  native().sysTrimHeap();
}

/** One datagram to the service manager; `address` is the value of NOTIFY_SOCKET. */
export function notifyServiceManager(address: string, text: string): void {
  native().sysNotify(address, text);
}

/**
 * A unix socket that listens at `path`, which only its owner may open (0600). Unlike one of Node's, its file stays when it is closed. The fd
 * is the caller's. Throws EADDRINUSE for a path that is there, ENAMETOOLONG.
 */
export function listenUnixSocket(path: string): number {
  return native().sysListenUnix(path);
}

/**
 * execve(2): this process becomes another program, with the environment it was started with. `words` begins with the program's name. Of what is
 * open stdin, stdout, stderr and `fds` stay. Nothing that was to be written or closed in order is; throws when there is no such program.
 */
export function execute(path: RawPath, words: readonly string[], { fds = [] }: ExecuteOptions = {}): never {
  native().sysExecute(path, words, [0, 1, 2, ...fds]);
  throw new Error('execve returned');
}
