import { chmod, mkdir, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { makeDirectory } from '../../src/util/make-directory.ts';
import { tempDir } from '../support/tmp.ts';

describe('makeDirectory', () => {
  it('makes what is missing with the mode asked for and takes what is there', async () => {
    const path = join(tempDir(), 'a', 'b', 'c');
    await makeDirectory(path, 0o700);
    expect((await stat(path)).mode & 0o777).toBe(0o700);
    await chmod(path, 0o711);
    await makeDirectory(path, 0o700);
    expect((await stat(path)).mode & 0o777).toBe(0o711);
  });

  it('takes a symlink to a directory', async () => {
    const dir = tempDir();
    await mkdir(join(dir, 'd'));
    await symlink('d', join(dir, 'l'));
    await makeDirectory(join(dir, 'l', 'x'));
    expect((await stat(join(dir, 'd', 'x'))).isDirectory()).toBe(true);
  });

  it('makes the same directory many times at once', async () => {
    const path = join(tempDir(), 'a', 'b', 'c');
    await Promise.all(Array.from({ length: 16 }, () => makeDirectory(path)));
    expect((await stat(path)).isDirectory()).toBe(true);
  });

  it('refuses a file in the way', async () => {
    const dir = tempDir();
    await writeFile(join(dir, 'file'), '');
    await expect(makeDirectory(join(dir, 'file'))).rejects.toMatchObject({ code: 'EEXIST' });
    await expect(makeDirectory(join(dir, 'file', 'x'))).rejects.toMatchObject({ code: 'ENOTDIR' });
  });

  // Node's own recursive mkdir never returns from this.
  it('ends where nothing can be made', async () => {
    await expect(makeDirectory('/proc/peel/x')).rejects.toMatchObject({ code: 'ENOENT' });
    await makeDirectory('/proc/self');
  });
});
