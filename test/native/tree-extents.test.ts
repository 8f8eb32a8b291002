import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { treeExtents } from '../../src/native/tree-extents.ts';
import { readTar } from '../../src/tar/reader.ts';
import { archiveTree } from '../../src/tree/archive-tree.ts';
import { writeErofs } from '../../src/tree/erofs-writer.ts';
import { archive } from '../support/tar-builder.ts';
import { tempDir } from '../support/tmp.ts';

describe('treeExtents', () => {
  it('gives the places of the files, in the order of the stream', async () => {
    const tar = archive(
      { name: 'b/', flag: '5' },
      { name: 'b/z', data: Buffer.alloc(70_000, 1) },
      { name: 'a', data: 'x' },
      { name: 'empty' },
      { name: 'b/again', flag: '1', link: 'b/z' },
      { name: 'c', data: Buffer.alloc(512, 2) },
    );
    const file = join(tempDir('peel-extents-'), 'tree.erofs');
    await writeFile(file, writeErofs(archiveTree(readTar(tar), { streamSize: tar.length })));
    const big = 2 * 512;
    const one = big + 137 * 512 + 512;
    expect(await treeExtents(file)).toEqual([
      Float64Array.from([big, big + 70_000, one, one + 1, one + 512 * 4, one + 512 * 5]),
    ]);
  });

  it('says what is no tree', async () => {
    const dir = tempDir('peel-extents-');
    await writeFile(join(dir, 'text'), 'x'.repeat(5000));
    await expect(treeExtents(join(dir, 'text'))).rejects.toMatchObject({ code: 'EUCLEAN' });
    await expect(treeExtents(join(dir, 'none'))).rejects.toMatchObject({ code: 'ENOENT' });
    expect(() => treeExtents('a\0b')).toThrow(TypeError);
  });
});
