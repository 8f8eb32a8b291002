import { createHash, randomBytes } from 'node:crypto';
import { closeSync, lstatSync, openSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { keepResident } from '../../src/native/resident-file.ts';
import * as sys from '../../src/native/sys.ts';
import { runOk } from '../support/run.ts';
import { tempDir } from '../support/tmp.ts';

const code = (name: string) => expect.objectContaining({ code: name });

describe('sys', () => {
  it('locks an open file against others, shared or alone', () => {
    const file = path.join(tempDir(), 'lock');
    writeFileSync(file, '');
    const [a, b] = [openSync(file, 'r'), openSync(file, 'r')];
    expect(sys.tryLock(a, 'shared')).toBe(true);
    expect(sys.tryLock(b, 'shared')).toBe(true);
    expect(sys.tryLock(b, 'exclusive')).toBe(false);
    sys.unlock(a);
    expect(sys.tryLock(b, 'exclusive')).toBe(true);
    closeSync(b);
    expect(sys.tryLock(a, 'exclusive')).toBe(true);
    closeSync(a);
    expect(() => sys.tryLock(a, 'shared')).toThrow(code('EBADF'));
  });

  it('keeps a file mapped until it is released, within a limit', async () => {
    const file = path.join(tempDir(), 'tree');
    writeFileSync(file, Buffer.alloc(10_000, 1));
    const mapped = (): boolean => readFileSync('/proc/self/maps', 'latin1').includes(file);
    const resident = await keepResident(file, 10_000);
    expect(mapped()).toBe(true);
    resident.release();
    resident.release();
    expect(mapped()).toBe(false);
    await expect(keepResident(file, 9_999)).rejects.toThrow(code('EFBIG'));
    await expect(keepResident(`${file}-not`, 1)).rejects.toThrow(code('ENOENT'));
    await expect(keepResident(path.dirname(file), 1)).rejects.toThrow(code('EINVAL'));
  });

  it('keeps names and values of attributes as bytes', () => {
    const file = Buffer.concat([Buffer.from(`${tempDir()}/`), Buffer.from([0x66, 0xff])]);
    writeFileSync(file, '');
    const value = Buffer.from([0, 0xff, 0x80, 10]);
    const name = Buffer.concat([Buffer.from('user.'), Buffer.from([0xfe])]);
    sys.setXattr(file, name, value);
    sys.setXattr(file, 'user.empty', new Uint8Array(0));
    expect(sys.getXattr(file, name)).toEqual(value);
    expect(sys.getXattr(file, 'user.empty')).toEqual(Buffer.alloc(0));
    expect(
      sys
        .listXattrs(file)
        .map((found) => found.toString('latin1'))
        .sort(),
    ).toEqual(['user.empty', 'user.\xfe']);
    expect(() => sys.getXattr(file, 'user.none')).toThrow(code('ENODATA'));
  });

  it('sets times to the nanosecond, of a symlink itself', async () => {
    const dir = tempDir();
    symlinkSync('nowhere', path.join(dir, 'link'));
    sys.setTimes(path.join(dir, 'link'), -5, 999_999_999);
    expect((await runOk('stat', ['-c', '%.9Y', path.join(dir, 'link')])).trim()).toBe('-4.000000001');
    expect(() => sys.setTimes(dir, 1.5, 0)).toThrow(TypeError);
    expect(() => sys.setTimes(dir, 1, 1e9)).toThrow(TypeError);
  });

  it('makes device nodes and fifos', () => {
    const dir = tempDir();
    sys.mknod(path.join(dir, 'null'), 0o020_644, 1, 3);
    sys.mknod(path.join(dir, 'fifo'), 0o010_600, 0, 0);
    expect(lstatSync(path.join(dir, 'null')).rdev).toBe(0x103);
    expect(lstatSync(path.join(dir, 'fifo')).isFIFO()).toBe(true);
    expect(() => sys.mknod(path.join(dir, 'fifo'), 0o010_600, 0, 0)).toThrow(code('EEXIST'));
  });

  it('tells the filesystem of a path and its room', () => {
    expect(sys.statFs('/dev/shm').type).toBe(sys.fsType.tmpfs);
    const { freeBytes, totalBytes } = sys.statFs(tempDir());
    expect(freeBytes).toBeGreaterThan(0);
    expect(totalBytes).toBeGreaterThanOrEqual(freeBytes);
    expect(() => sys.statFs('/none')).toThrow(code('ENOENT'));
  });

  it('syncs the filesystem of a path', async () => {
    const dir = tempDir();
    writeFileSync(path.join(dir, 'file'), 'data');
    symlinkSync('file', path.join(dir, 'link'));
    // In memory: a disk may have much to write.
    await sys.syncFilesystem('/dev/shm');
    await expect(sys.syncFilesystem(path.join(dir, 'none'))).rejects.toThrow(code('ENOENT'));
    await expect(sys.syncFilesystem(path.join(dir, 'link'))).rejects.toThrow(code('ELOOP'));
  });

  it('hashes a part of a file, also when its owner closes it meanwhile', async () => {
    const bytes = randomBytes(1_000_000);
    const file = path.join(tempDir(), 'hashed');
    writeFileSync(file, bytes);
    const fd = openSync(file, 'r');
    const hashes = [
      sys.hashFileRange(fd, 0, 1_000_000),
      sys.hashFileRange(fd, 17, 999_001),
      sys.hashFileRange(fd, 5, 5),
    ];
    const past = sys.hashFileRange(fd, 0, 1_000_001);
    past.catch(() => {});
    closeSync(fd);
    const wanted = [bytes, bytes.subarray(17, 999_001), Buffer.alloc(0)].map((part) =>
      createHash('sha256').update(part).digest('hex'),
    );
    expect((await Promise.all(hashes)).map((hash) => hash.toString('hex'))).toEqual(wanted);
    await expect(past).rejects.toThrow(code('ENODATA'));
    expect(() => sys.hashFileRange(fd, 0, 1)).toThrow(code('EBADF'));
  });

  it('refuses a path with a NUL and a socket name that is too long', () => {
    expect(() => sys.statFs('/a\0b')).toThrow(TypeError);
    expect(() => sys.notifyServiceManager(`/${'x'.repeat(200)}`, 'READY=1')).toThrow(code('EINVAL'));
    expect(() => sys.notifyServiceManager('/none/socket', 'READY=1')).toThrow(code('ENOENT'));
  });

  it('sends one datagram to the service manager', async () => {
    const socket = path.join(tempDir(), 's');
    const python = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind(sys.argv[1]); s.settimeout(5)
print(s.recv(100).decode())`;
    const received = runOk('python3', ['-c', python, socket]);
    for (let i = 0; i < 200; i++) {
      try {
        sys.notifyServiceManager(socket, 'READY=1');
        break;
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }
    expect(await received).toBe('READY=1\n');
  });
});
