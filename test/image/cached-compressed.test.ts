// Compressed layers that were kept behind an unpacking are part of the cache: they are listed, counted and removed.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { labLayer } from '../support/image-lab.ts';
import { tarOf } from '../support/tar-members.ts';
import { UnpackLab } from '../support/unpack-lab.ts';
import type { UnpackConfig } from '../support/unpack-lab.ts';

async function unpacked(config: UnpackConfig = {}) {
  const lab = await UnpackLab.start();
  const made = ['a', 'b'].map((path) => labLayer(tarOf({ path, data: Buffer.alloc(100_000, path) }), 'gzip'));
  const image = await lab.lab.push('1', made);
  const node = await lab.node();
  const unpacker = await lab.unpacker(node, config);
  await lab.unpackImage(unpacker, node, image);
  await unpacker.idle();
  const digests = image.layers.map(({ descriptor }) => descriptor.digest);
  const blobs = digests.map((digest) => join(node.paths.root, 'compressed', ...digest.split(':')));
  expect(blobs.map((path) => existsSync(path))).toEqual([true, true]);
  return { image, node, digests, blobs };
}

describe('a compressed layer that is kept', () => {
  it('is listed and goes with its layer', async () => {
    const { image, node, digests, blobs } = await unpacked();
    const sizes = Object.fromEntries(image.layers.map(({ descriptor: { digest, size } }) => [digest, size]));
    const entries = await node.cacheEntries();
    expect(Object.fromEntries(entries.map((entry) => [entry.digest, entry.compressedBytes]))).toEqual(sizes);
    expect(await node.removeCached([digests[0] ?? ''])).toMatchObject({ removed: [digests[0]], busy: [] });
    expect(blobs.map((path) => existsSync(path))).toEqual([false, true]);
    expect((await node.cacheEntries()).map(({ digest }) => digest)).toEqual([digests[1]]);
  });

  it('goes before layers of the block cache do', async () => {
    const { node, blobs } = await unpacked();
    const blockBytes = (await node.cacheEntries()).reduce((sum, { diskBytes }) => sum + diskBytes, 0);
    expect(await node.pruneCache(blockBytes)).toMatchObject({ removed: [], busy: [], freedBytes: expect.anything() });
    expect(blobs.map((path) => existsSync(path))).toEqual([false, false]);
    expect(await node.cacheEntries()).toHaveLength(2);
  });

  it('goes also when its layer is in use', async () => {
    const { image, node, blobs } = await unpacked();
    const opened = await node.openImage(image.reference);
    expect(await node.pruneCache(0)).toMatchObject({ removed: [], busy: { length: 2 } });
    expect(blobs.map((path) => existsSync(path))).toEqual([false, false]);
    await opened.close();
  });

  it('goes where its layer is not in the block cache', async () => {
    const { node, blobs } = await unpacked({ fill_cache: false });
    expect(await node.cacheEntries()).toMatchObject([{ diskBytes: 0 }, { diskBytes: 0 }]);
    expect(await node.removeCached('all')).toMatchObject({ removed: { length: 2 }, busy: [] });
    expect(blobs.map((path) => existsSync(path))).toEqual([false, false]);
    expect(await node.cacheEntries()).toEqual([]);
  });
});
