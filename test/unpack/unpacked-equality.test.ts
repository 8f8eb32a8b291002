// What the unpacker makes of images equals what umoci and tar make of them, from wherever their bytes come.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Node } from '../../src/daemon/node.ts';
import type { Layer } from '../../src/layer/layer.ts';
import { isFullScale, makeFixture, rounds } from '../support/fixtures.ts';
import { labLayer } from '../support/image-lab.ts';
import type { LabCompression, LabImage, LabLayer } from '../support/image-lab.ts';
import { listTree, treeDifference } from '../support/list-tree.ts';
import { stackDifference, stackOverlay } from '../support/overlay-stack.ts';
import { canMount } from '../support/peel-node.ts';
import { unpackWithTar, unpackWithUmoci } from '../support/reference-tree.ts';
import { keptTempDir } from '../support/tmp.ts';
import { UnpackLab } from '../support/unpack-lab.ts';

const dir = keptTempDir();
afterAll(() => dir[Symbol.dispose]());

const compressions = ['gzip', 'zstd', 'none', 'gzip', 'none', 'zstd'] as const;
const inLayers = (tars: readonly string[], kinds: readonly LabCompression[] = compressions): LabLayer[] =>
  tars.map((tar, i) => labLayer(readFileSync(tar), kinds[i % kinds.length]));

describe.skipIf(!canMount)('an image with everything in it', () => {
  let zoo: string[];
  let layers: LabLayer[];
  let expected: string[];
  beforeAll(async () => {
    zoo = await makeFixture('zoo', join(dir.path, 'zoo'));
    layers = inLayers(zoo);
    expected = await listTree(await unpackWithUmoci(join(dir.path, 'zoo-reference'), zoo));
  });

  async function start(): Promise<{ lab: UnpackLab; image: LabImage; node: Node }> {
    const lab = await UnpackLab.start();
    const image = await lab.lab.push('zoo', layers);
    return { lab, image, node: await lab.node() };
  }

  async function expectEqual(found: string): Promise<void> {
    expect(treeDifference(await listTree(found), expected)).toBe('');
  }

  it('is in one directory as umoci unpacks it, and once more without the registry', async () => {
    const { lab, image, node } = await start();
    const unpacker = await lab.unpacker(node, { chunk_size: 256 << 10 });
    await expectEqual(await lab.unpackImage(unpacker, node, image));
    await unpacker.idle();
    // All of it is in the block cache by now, with an index.
    lab.lab.front.forget();
    await expectEqual(await lab.unpackImage(unpacker, node, image));
    expect(lab.lab.front.seen('/blobs/')).toEqual([]);
  });

  const cached: readonly [string, (layer: Layer) => Promise<unknown>][] = [
    ['a half', async (layer) => await layer.read(0, layer.streamSize >> 1)],
    ['nothing', async () => {}],
    ['all', (layer) => layer.fillCache({ signal: AbortSignal.timeout(60_000) })],
  ];
  it.each(cached.slice(0, isFullScale() ? 3 : 1))(
    'is the same by an index of somebody else, with %s in the cache',
    async (_what, read) => {
      const { lab, image, node } = await start();
      for (const [i, { descriptor }] of layers.entries())
        if (!descriptor.mediaType.endsWith('zstd')) await lab.openLazily(node, image, i, { spanSize: 64 << 10 }, read);
      const unpacker = await lab.unpacker(node, { chunk_size: 256 << 10 });
      await expectEqual(await lab.unpackImage(unpacker, node, image));
      await unpacker.idle();
      for (const { descriptor } of layers) {
        const format = descriptor.mediaType.endsWith('zstd') ? 'node' : 'soci-v2';
        expect(node.state.layers.get(descriptor.digest)?.indexFormat).toBe(format);
      }
    },
  );

  it('is the same in layers that overlayfs stacks', async () => {
    const lab = await UnpackLab.start();
    // The last one has a hard link into a lower layer.
    const image = await lab.lab.push('zoo', layers.slice(0, -1));
    const node = await lab.node();
    const unpacker = await lab.unpacker(node);
    const requests = await Promise.all(image.layers.map((_, i) => lab.request(node, image, i)));
    const dirs = await Promise.all(requests.map((request) => lab.take(unpacker, request)));
    const reference = await unpackWithUmoci(lab.path('reference'), zoo.slice(0, -1));
    const stacked = await stackOverlay(dirs);
    expect(stackDifference(await listTree(stacked, { overlay: true }), await listTree(reference))).toBe('');
  });
});

describe.skipIf(!canMount)('an image equals what tar makes of it', () => {
  it.each([
    ['sparse', []],
    ['wide', [`${Math.min(rounds(50_000, 500, 0.01), 50_000)}`]],
  ] as const)('%s', async (name, args) => {
    const tars = await makeFixture(name, join(dir.path, name), ...args);
    const expected = await listTree(await unpackWithTar(join(dir.path, `${name}-reference`), tars));
    const lab = await UnpackLab.start();
    const image = await lab.lab.push(name, inLayers(tars));
    const node = await lab.node();
    const unpacker = await lab.unpacker(node);
    const found = await lab.unpackImage(unpacker, node, image);
    expect(treeDifference(await listTree(found), expected)).toBe('');
  });
});
