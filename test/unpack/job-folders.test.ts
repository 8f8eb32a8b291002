import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { checkSpace } from '../../src/unpack/check-space.ts';
import { FolderLock } from '../../src/unpack/folder-lock.ts';
import { JobFolders } from '../../src/unpack/job-folders.ts';
import { tempDir } from '../support/tmp.ts';

describe('JobFolders', () => {
  it('sweeps nothing that is locked or that a job has by now', async () => {
    const root = tempDir('peel-folders-');
    const folders = new JobFolders(root);
    const fresh = await folders.make();
    const name = path.basename(fresh.path);
    expect(await folders.sweep(name, () => false)).toBe(false);
    folders.adopt(fresh, 36);
    expect(folders.of(36)).toBe(path.join(root, 'unpack', '10'));
    fresh.lock.release();
    expect(await folders.sweep('10', () => true)).toBe(false);
    expect(folders.hasTree(36)).toBe(true);
    // Whoever looked before it was locked takes it for garbage; that gives the lock back too.
    expect(await folders.sweep('10', () => false)).toBe(true);
    expect([folders.hasTree(36), existsSync(folders.of(36)), folders.tryLock(36)]).toEqual([false, false, 'missing']);
  });

  it('makes an adoption undone when its transaction fails', async () => {
    const folders = new JobFolders(tempDir('peel-folders-'));
    const fresh = await folders.make();
    folders.adopt(fresh, 1);
    folders.giveBack(fresh, 1);
    await folders.discard(fresh);
    expect([await folders.names(), fresh.lock.held]).toEqual([[], false]);
  });

  it('knows which job a name would be', async () => {
    const root = tempDir('peel-folders-');
    for (const name of ['z', 'old-x', '0z', 'Z', 'zz']) mkdirSync(path.join(root, 'unpack', name), { recursive: true });
    const names = await new JobFolders(root).names();
    expect(new Map(names.map(({ name, job }) => [name, job]))).toEqual(
      new Map([
        ['z', 35],
        ['old-x', undefined],
        ['0z', undefined],
        ['Z', undefined],
        ['zz', 1295],
      ]),
    );
  });
});

describe('FolderLock', () => {
  it('is held by one, and by nobody for a folder that is gone', () => {
    const folder = path.join(tempDir('peel-lock-'), 'folder');
    expect(FolderLock.tryTake(folder)).toBe('missing');
    mkdirSync(folder);
    const lock = FolderLock.tryTake(folder);
    if (typeof lock === 'string') return expect.unreachable(lock);
    expect([lock.held, FolderLock.tryTake(folder)]).toEqual([true, 'busy']);
    renameSync(folder, `${folder}-old`);
    expect([FolderLock.tryTake(folder), FolderLock.tryTake(`${folder}-old`)]).toEqual(['missing', 'busy']);
    lock.release();
    lock.release();
    using again = FolderLock.tryTake(`${folder}-old`) as FolderLock;
    expect([again.held, lock.held]).toEqual([true, false]);
    rmSync(`${folder}-old`, { recursive: true });
  });
});

describe('checkSpace', () => {
  it('says how much is free and how much is needed', async () => {
    const root = tempDir('peel-space-');
    await checkSpace({ root, needed: 0, reserve: 0 });
    const [needed, reserve] = [2 ** 60, 12_345];
    await expect(checkSpace({ root, needed, reserve })).rejects.toMatchObject({
      code: 'ERR_UNPACK_SPACE',
      message: expect.stringMatching(
        `in ${root}: [0-9]+ bytes are free, ${needed} are needed and 12345 are to`,
      ) as string,
    });
    await expect(checkSpace({ root, needed: 1, reserve: 2 ** 60 })).rejects.toMatchObject({ code: 'ERR_UNPACK_SPACE' });
    const gone = path.join(root, 'gone');
    await expect(checkSpace({ root: gone, needed: 1, reserve: 0 })).rejects.toMatchObject({ code: 'ERR_UNPACK_DISK' });
  });
});
