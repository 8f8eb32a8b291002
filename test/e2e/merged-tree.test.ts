// The tree in memory, which every transport serves, equals what umoci and tar unpack; without a mount, a difference here is one
// of the tar reader or the merge.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readTar } from '../../src/tar/reader.ts';
import { mergeLayers } from '../../src/tree/merge.ts';
import { makeFixture } from '../support/fixtures.ts';
import { listTree, treeDifference } from '../support/list-tree.ts';
import { canMount } from '../support/peel-node.ts';
import { unpackWithTar, unpackWithUmoci } from '../support/reference-tree.ts';
import { tempDir } from '../support/tmp.ts';
import { treeLines } from '../support/tree-lines.ts';

describe.skipIf(!canMount)('the merged tree', () => {
  it.each([['zoo', unpackWithUmoci] as const, ['sparse', unpackWithTar] as const])(
    'of %s equals the unpacked one',
    async (fixture, unpack) => {
      const dir = tempDir();
      const tars = await makeFixture(fixture, join(dir, 'layers'));
      const streams = await Promise.all(tars.map((tar) => readFile(tar)));
      const tree = mergeLayers(streams.map((bytes) => ({ entries: readTar(bytes), streamSize: bytes.length })));
      const expected = await listTree(await unpack(dir, tars));
      expect(treeDifference(treeLines(tree, streams), expected)).toBe('');
    },
  );
});
