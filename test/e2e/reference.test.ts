// The oracle itself: two programs that unpack the same layers must come out equal, and a small change must not.
import { chmod, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { makeFixture } from '../support/fixtures.ts';
import { listTree, treeDifference } from '../support/list-tree.ts';
import { unpackWithTar, unpackWithUmoci } from '../support/reference-tree.ts';
import { runOk } from '../support/run.ts';
import { tempDir } from '../support/tmp.ts';

describe('the tree listing', () => {
  it('is the same for what umoci and GNU tar unpack, and sees every small change', async () => {
    const dir = tempDir();
    const layers = (await makeFixture('zoo', join(dir, 'layers'))).slice(0, 3);
    const umoci = await unpackWithUmoci(dir, layers);
    const tar = await unpackWithTar(dir, layers);
    const expected = await listTree(umoci);
    expect(treeDifference(await listTree(tar), expected)).toBe('');
    expect(expected.length).toBeGreaterThan(390);

    await chmod(join(tar, 'bin/one'), 0o600);
    await utimes(join(tar, 'many/007'), 1, 2);
    await runOk('setfattr', ['-n', 'user.text', '-v', 'hellO', join(tar, 'xattr/user')]);
    await runOk('ln', ['-f', join(tar, 'bin/one'), join(tar, 'bin/across')]);
    const changed = await listTree(tar);
    const paths = changed.filter((line) => !expected.includes(line)).map((line) => line.split('	')[0]);
    // Every name of the inodes that were touched, linked or replaced, and the directory that got a new name.
    const touched = ['bin', 'bin/across', 'bin/one', 'links/again', 'links/target', 'many/007'];
    expect(paths).toEqual([...touched, 'xattr/user', 'xattr/user-linked']);
  });
});
