// Trees of single layers, each mounted by the kernel and all stacked by a real overlayfs, equal what umoci and tar unpack.
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { erofsMount } from '../../src/native/mounts.ts';
import { readTar } from '../../src/tar/reader.ts';
import { writeErofs } from '../../src/tree/erofs-writer.ts';
import { TreeError } from '../../src/tree/errors.ts';
import { layerTree } from '../../src/tree/layer-tree.ts';
import { type LayerEntries, mergeLayers } from '../../src/tree/merge.ts';
import type { Tree } from '../../src/tree/tree.ts';
import { makeFixture } from '../support/fixtures.ts';
import { listTree, treeDifference } from '../support/list-tree.ts';
import { attached } from '../support/mounted.ts';
import { stackOverlay, stackDifference } from '../support/overlay-stack.ts';
import { canMount } from '../support/peel-node.ts';
import { unpackWithTar, unpackWithUmoci } from '../support/reference-tree.ts';
import { runOk } from '../support/run.ts';
import { describeShort, type Short } from '../support/short-layers.ts';
import { tarOf } from '../support/tar-members.ts';
import { keptTempDir, tempDir } from '../support/tmp.ts';

describe.skipIf(!canMount)('a stack of layers', () => {
  let zoo: string[];
  let zooLines: string[];
  let zooLayers: LayerEntries[];
  const dir = keptTempDir();

  beforeAll(async () => {
    const all = await makeFixture('zoo', join(dir.path, 'zoo'));
    zooLayers = await Promise.all(all.map(entriesOf));
    // The last one has a hard link into a lower layer.
    zoo = all.slice(0, -1);
    zooLines = await listTree(await unpackWithUmoci(join(dir.path, 'reference'), zoo));
  });
  afterAll(() => dir[Symbol.dispose]());

  it.each([false, true])(
    'equals what umoci unpacks: all shapes of names and inodes, userxattr %s',
    async (userXattr) => {
      const stacked = await stackOverlay(await mountLayers(zoo, userXattr), { userXattr });
      expect(stackDifference(await listTree(stacked, { overlay: true }), zooLines)).toBe('');
    },
  );

  it('needs no look at the layers below when the tars have all parents, and refuses a link into them', () => {
    for (const [i, layer] of zooLayers.entries()) {
      const make = (below: Tree | 'unknown') => layerTree(layer, { below });
      if (i < zoo.length) expect(make('unknown').layers).toBe(1);
      else expect(codeOf(() => make(mergeLayers(zooLayers.slice(0, i))))).toBe('ERR_TREE_LOWER_LINK');
    }
  });

  it('equals what tar unpacks of a single layer, mounted by itself', async () => {
    const tars = await makeFixture('sparse', join(tempDir(), 'sparse'));
    const [only] = await mountLayers(tars.slice(0, 1), false);
    const reference = await unpackWithTar(tempDir(), tars.slice(0, 1));
    expect(treeDifference(await listTree(only as string), await listTree(reference))).toBe('');
  });

  it('equals for layers without parents, through links, and with an opaque root', async () => {
    const tmp = { path: 'tmp', type: 'dir', mode: 0o1777, uid: 3, mtime: 1_500_000_000 } as const;
    const old = ['usr/', 'usr/lib/', 'usr/lib/old', 'usr/lib/gone', 'lib -> usr/lib', tmp, 'tmp/a', 'opt/', 'opt/x/'];
    const links = ['lib/new', 'lib/.wh.gone', 'tmp/b', 'usr/lib/hard = usr/lib/new'];
    const tars = await writeTars([
      [...old, 'opt/x/y', 'file'],
      [...links, '.wh.nothing'],
      ['none/', 'none/.wh.where', 'none/f'],
      ['opt/.wh.x', 'opt/x/', 'opt/x/z', 'file/', 'file/inside', 'tmp/.wh..wh..opq', 'tmp/c'],
      ['.wh..wh..opq', 'usr/', 'usr/only', 'fresh'],
    ]);
    const mounts = await mountLayers(tars, false);
    const stacked = await listTree(await stackOverlay(mounts.slice(0, 4)), { overlay: true });
    expect(stackDifference(stacked, await listTree(await unpackWithUmoci(tempDir(), tars.slice(0, 4))))).toBe('');

    const cleared = await listTree(await stackOverlay(mounts), { overlay: true });
    expect(cleared.map((line) => line.split('\t')[0])).toEqual(['.', 'fresh', 'usr', 'usr/only']);
  });

  it('takes changes like any other stack', async () => {
    const layers = await mountLayers(zoo, false);
    const changes = tempDir();
    await runOk('mkdir', [join(changes, 'upper'), join(changes, 'work')]);
    const stacked = await stackOverlay(layers, { changes });
    const script =
      'rm many/001 && rm -r gone && mkdir gone && echo a >many/new && mv names/caf* many/ && chmod 700 hidden && touch many/000';
    await runOk('sh', ['-c', `cd ${stacked} && ${script}`]);
    expect(await runOk('sh', ['-c', `cd ${stacked} && ls gone hidden && cat many/new && ls many | wc -l`])).toBe(
      'gone:\n\nhidden:\nnew\na\n202\n',
    );
  });
});

async function entriesOf(tar: string): Promise<LayerEntries> {
  const bytes = await readFile(tar);
  return { entries: readTar(bytes), streamSize: bytes.length };
}

/** Each layer's tree, mounted with its own tar as device; lowest first. */
async function mountLayers(tars: readonly string[], userXattr: boolean): Promise<string[]> {
  const layers = await Promise.all(tars.map(entriesOf));
  const dir = tempDir();
  const mounts: string[] = [];
  for (const [i, layer] of layers.entries()) {
    const source = join(dir, `${i}.erofs`);
    await writeFile(source, writeErofs(treeOver(layers.slice(0, i), layer, userXattr)));
    const devices = [tars[i] as string];
    mounts.push(await attached(await erofsMount({ source, devices, directIo: false, noSuidDev: false })));
  }
  return mounts;
}

function treeOver(below: readonly LayerEntries[], layer: LayerEntries, userXattr: boolean): Tree {
  if (below.length === 0) return layerTree(layer, { below: 'nothing', userXattr });
  try {
    return layerTree(layer, { below: 'unknown', userXattr });
  } catch (error) {
    if (!(error instanceof TreeError) || error.code !== 'ERR_TREE_BELOW') throw error;
    return layerTree(layer, { below: mergeLayers(below), userXattr });
  }
}

async function writeTars(layers: readonly (readonly Short[])[]): Promise<string[]> {
  const dir = tempDir();
  const root: Short = { path: './', type: 'dir' };
  return await Promise.all(
    layers.map(async (layer, i) => {
      const path = join(dir, `${i}.tar`);
      await writeFile(path, tarOf(...[root, ...layer].map(describeShort)));
      return path;
    }),
  );
}

function codeOf(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    if (error instanceof TreeError) return error.code;
    throw error;
  }
  return 'accepted';
}
