import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { checkMountTarget } from '../../src/image/mount-target.ts';
import { parseMountInfo } from '../../src/image/mountinfo.ts';
import { isRunning, ownIdentity } from '../../src/image/process-identity.ts';
import { tempDir } from '../support/tmp.ts';

describe('parseMountInfo', () => {
  it('reads optional fields, escapes and options', () => {
    const text = [
      '36 35 98:0 /mnt1 /mnt/a\\040b rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue',
      '37 35 0:41 / /mnt/c ro - fuse.peel peel ro,user_id=0',
      '',
    ].join('\n');
    expect(parseMountInfo(text)).toEqual([
      {
        id: 36,
        parent: 35,
        dir: '/mnt/a b',
        fsType: 'ext3',
        source: '/dev/root',
        options: ['rw', 'noatime'],
        superOptions: ['rw', 'errors=continue'],
      },
      {
        id: 37,
        parent: 35,
        dir: '/mnt/c',
        fsType: 'fuse.peel',
        source: 'peel',
        options: ['ro'],
        superOptions: ['ro', 'user_id=0'],
      },
    ]);
  });
});

describe('checkMountTarget', () => {
  it('resolves links on the way and accepts an empty directory', async () => {
    const dir = tempDir();
    mkdirSync(join(dir, 'real'));
    symlinkSync('real', join(dir, 'link'));
    expect(await checkMountTarget(join(dir, 'link'))).toBe(join(dir, 'real'));
  });

  it.each([
    ['missing', /does not exist/],
    ['missing/below', /does not exist/],
    ['file', /not a directory/],
    ['file/below', /not a directory/],
    ['full', /not empty/],
  ])('refuses %s', async (name, message) => {
    const dir = tempDir();
    writeFileSync(join(dir, 'file'), '');
    mkdirSync(join(dir, 'full', 'x'), { recursive: true });
    await expect(checkMountTarget(join(dir, name))).rejects.toMatchObject({
      code: 'ERR_MOUNT_TARGET',
      message: expect.stringMatching(message),
    });
  });

  it('refuses a directory that something is mounted on', async () => {
    await expect(checkMountTarget('/proc')).rejects.toMatchObject({
      code: 'ERR_MOUNT_TARGET',
      message: expect.stringMatching(/already mounted/),
    });
  });
});

describe('isRunning', () => {
  it('tells a process from another one of the same number', async () => {
    const own = await ownIdentity();
    expect(await isRunning(own)).toBe(true);
    expect(await isRunning({ ...own, pidStart: '1' })).toBe(false);
    expect(await isRunning({ ...own, boot: 'another' })).toBe(false);
    expect(await isRunning({ ...own, pid: 2 ** 22 + 1 })).toBe(false);
  });
});
