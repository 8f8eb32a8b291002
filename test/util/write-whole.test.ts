import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdir, readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { writeWhole } from '../../src/util/write-whole.ts';
import { mountPoint } from '../support/mounted.ts';
import { tempDir } from '../support/tmp.ts';

describe('writeWhole', () => {
  it('writes many pieces in order, in place of what was there', async () => {
    const path = join(tempDir(), 'file');
    const pieces = Array.from({ length: 3_000 }, (_, i) => randomBytes(i % 7));
    await writeWhole(path, [Buffer.from('before')]);
    await writeWhole(path, pieces);
    expect((await readFile(path)).equals(Buffer.concat(pieces))).toBe(true);
    await writeWhole(path, []);
    expect(await readFile(path, 'utf8')).toBe('');
  });

  it('leaves nothing when the place is taken by a directory', async () => {
    const dir = tempDir();
    await mkdir(join(dir, 'taken'));
    await expect(writeWhole(join(dir, 'taken'), [Buffer.from('x')])).rejects.toThrow(/EISDIR|directory/);
    expect(await readdir(dir)).toEqual(['taken']);
  });

  it('keeps what was there when the disk is full, and nothing beside it', async () => {
    const dir = mountPoint();
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'peel-test', dir]);
    const path = join(dir, 'file');
    await writeWhole(path, [Buffer.from('before')]);
    const pieces = Array.from({ length: 100 }, () => randomBytes(10_000));
    await expect(writeWhole(path, pieces)).rejects.toMatchObject({ code: 'ENOSPC' });
    expect(await readFile(path, 'utf8')).toBe('before');
    expect(await readdir(dir)).toEqual(['file']);
  });
});
