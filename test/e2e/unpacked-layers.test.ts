// Layers unpacked onto a real disk equal the trees of the same entries, and what umoci unpacks.
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { mergeLayers } from '../../src/tree/merge.ts';
import type { Tree } from '../../src/tree/tree.ts';
import { UnpackError } from '../../src/unpack/errors.ts';
import { appliedTree, type ApplyOptions } from '../support/applied-layers.ts';
import { makeFixture, rounds } from '../support/fixtures.ts';
import { listTree, treeDifference } from '../support/list-tree.ts';
import { stackDifference, stackOverlay } from '../support/overlay-stack.ts';
import { canMount } from '../support/peel-node.ts';
import { randomLayer } from '../support/random-layers.ts';
import { unpackWithUmoci } from '../support/reference-tree.ts';
import { describeShort, shortLayer } from '../support/short-layers.ts';
import { tarOf } from '../support/tar-members.ts';
import { keptTempDir, tempDir } from '../support/tmp.ts';
import { treeLines } from '../support/tree-lines.ts';
import { writeLayers } from '../support/written-layers.ts';

describe.skipIf(!canMount)('layers of every shape, unpacked', () => {
  let zoo: string[];
  /** Without the last one, which has a hard link into a lower layer. */
  let stackLines: string[];
  const dir = keptTempDir();
  beforeAll(async () => {
    zoo = await makeFixture('zoo', join(dir.path, 'zoo'));
    stackLines = await listTree(await unpackWithUmoci(join(dir.path, 'reference'), zoo.slice(0, -1)));
  });
  afterAll(() => dir[Symbol.dispose]());

  it('in one directory equal what umoci unpacks, links into lower layers included', async () => {
    const reference = await unpackWithUmoci(tempDir(), zoo);
    const written = join(tempDir(), 'tree');
    await writeLayers(written, zoo, { form: 'plain', overlayMarks: 'kept', portions: [7, 100] });
    expect(treeDifference(await listTree(written), await listTree(reference))).toBe('');
  });

  it.each(['overlay', 'overlay-user'] as const)('and stacked equal what umoci unpacks: %s', async (form) => {
    const folder = tempDir();
    const dirs: string[] = [];
    for (const [i, tar] of zoo.slice(0, -1).entries()) {
      const layer = join(folder, String(i));
      const { implied } = await writeLayers(layer, [tar], { form, portions: [50] });
      expect(implied.filter((path) => path !== '')).toEqual([]);
      dirs.push(layer);
    }
    const stacked = await stackOverlay(dirs, { userXattr: form === 'overlay-user' });
    expect(stackDifference(await listTree(stacked, { overlay: true }), stackLines)).toBe('');
    const last = writeLayers(join(folder, 'last'), zoo.slice(-1), { form });
    await expect(last).rejects.toMatchObject({ code: 'ERR_UNPACK_BELOW' });
  });
});

describe.skipIf(process.getuid?.() !== 0)('random layers, unpacked', () => {
  it.each<ApplyOptions>([
    { form: 'plain', overlayMarks: 'kept', portions: [2, 3] },
    { form: 'overlay-user', portions: [1] },
  ])('equal the trees of their entries: %o', async (options) => {
    const wanted = rounds(200, 30, 0.15);
    const dir = tempDir();
    const trees = join(dir, 'trees');
    await mkdir(trees);
    const expected: string[] = [];
    const several = options.form === 'plain';
    let made = 0;
    const stacks = fc.sample(fc.array(randomLayer, { minLength: 1, maxLength: several ? 3 : 1 }), wanted * 4);
    for (const stack of stacks) {
      const layers = stack.map(shortLayer);
      let tree: Tree;
      try {
        tree = several ? mergeLayers(layers) : appliedTree(layers, options).tree;
      } catch {
        continue;
      }
      const streams = stack.map((layer) => tarOf(...layer.map(describeShort)));
      const tars = await Promise.all(
        streams.map(async (bytes, i) => {
          const path = join(dir, `${i}.tar`);
          await writeFile(path, bytes);
          return path;
        }),
      );
      await writeLayers(join(trees, String(made)), tars, options);
      expected.push(...treeLines(tree, streams).map((line) => moved(line, String(made))));
      if (++made === wanted) break;
    }
    expect(made).toBeGreaterThan(wanted / 2);
    const actual = (await listTree(trees)).filter((line) => !line.startsWith('.\t'));
    expect(treeDifference(actual, expected)).toBe('');
  });

  it('are refused before anything leaves the directory', async () => {
    const dir = tempDir();
    const tar = join(dir, 'layer.tar');
    for (const layer of [['../out'], ['l -> /', 'l/../out'], ['a = ../../etc/passwd']]) {
      await writeFile(tar, tarOf(...layer.map(describeShort)));
      const failing = writeLayers(join(dir, `tree-${layer.length}-${layer[0]?.length}`), [tar], { form: 'plain' });
      await expect(failing).rejects.toBeInstanceOf(UnpackError);
    }
    await writeFile(tar, tarOf(...[`l -> ${dir}`, 'l/out', 'up -> ../../..', 'up/out2'].map(describeShort)));
    await writeLayers(join(dir, 'tree'), [tar], { form: 'plain' });
    const paths = (await listTree(dir)).map((line) => line.split('\t')[0] as string);
    expect(paths.filter((path) => path.endsWith('/out'))).toEqual([`tree${dir}/out`]);
    expect(paths.filter((path) => path.endsWith('out2'))).toEqual(['tree/out2']);
  });
});

/** A line of a tree, as of one that lies in the folder `name` of what is listed. */
function moved(line: string, name: string): string {
  const columns = line.split('\t');
  for (const column of [0, 8]) columns[column] = columns[column] === '.' ? name : `${name}/${columns[column]}`;
  return columns.join('\t');
}
