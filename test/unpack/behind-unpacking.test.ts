// What is left of layers when their trees are in use: block cache, index and compressed blob, or nothing.
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, readdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Node } from '../../src/daemon/node.ts';
import { silentLog } from '../../src/observe/log.ts';
import { NodeUnpacker } from '../../src/unpack/node-unpacker.ts';
import type { UnpackSettings } from '../../src/unpack/unpack-settings.ts';
import { labLayer } from '../support/image-lab.ts';
import type { LabImage } from '../support/image-lab.ts';
import { tarOf } from '../support/tar-members.ts';
import { UnpackLab } from '../support/unpack-lab.ts';

const { signal } = new AbortController();
const settings: UnpackSettings = {
  chunkSize: 65_536,
  keepCompressed: true,
  fillCache: true,
  maxLayerSize: 1 << 30,
  maxRatio: 1000,
  reserve: 0,
  expiryMs: 60_000,
  decompressors: {},
};
const limits = { perNode: 4, perImage: 4 };

function unpackerOf(node: Node, boot: string): NodeUnpacker {
  return new NodeUnpacker({
    root: node.paths.root,
    state: node.state,
    store: node.imageDeps.layers,
    boot,
    settings: () => settings,
    limits: { downloads: limits, unpacks: limits },
    log: silentLog(),
  });
}

const names = (dir: string): string[] => (existsSync(dir) ? readdirSync(dir).toSorted() : []);

describe('a process that ends behind a claim', () => {
  /** The tree is taken, and nothing else done. */
  async function claimed(): Promise<{ lab: UnpackLab; node: Node; image: LabImage }> {
    const lab = await UnpackLab.start();
    const image = await lab.lab.push('1', [labLayer(tarOf({ path: 'file', data: randomBytes(300_000) }), 'gzip')]);
    const node = await lab.node();
    const unpacker = unpackerOf(node, 'first');
    const tree = await unpacker.unpackLayer(await lab.request(node, image), { signal });
    await unpacker.idle();
    tree.claim((from) => renameSync(from, lab.path('taken')));
    await unpacker.close();
    expect(unpacker.status().jobs).toMatchObject([{ state: 'claimed' }]);
    const [job = ''] = names(join(node.paths.root, 'unpack'));
    expect(names(join(node.paths.root, 'unpack', job))).toEqual(['blob', 'chunks', 'data', 'index', 'lock']);
    return { lab, node, image };
  }

  it('is followed by one that does the rest', async () => {
    const { lab, node, image } = await claimed();
    const next = unpackerOf(node, 'first');
    next.recover();
    await next.idle();
    expect(next.status().jobs).toEqual([]);
    expect(names(join(node.paths.root, 'unpack'))).toEqual([]);
    const { descriptor, blob } = image.layers[0] as LabImage['layers'][number];
    expect(readFileSync(join(node.paths.root, 'compressed/sha256', descriptor.digest.slice(7))).equals(blob)).toBe(
      true,
    );
    lab.lab.front.forget();
    const again = await next.unpackLayer(await lab.request(node, image), { signal });
    expect(names(again.dir)).toEqual(['file']);
    expect(lab.lab.front.seen('/blobs/')).toEqual([]);
    expect(node.state.layers.get(descriptor.digest)).toMatchObject({ indexFormat: 'node' });
    await next.close();
  });

  it('is followed by one that trusts nothing of it after a power cut', async () => {
    const { node, image } = await claimed();
    const next = unpackerOf(node, 'second');
    next.recover();
    await next.idle();
    expect(next.status().jobs).toEqual([]);
    expect(names(join(node.paths.root, 'unpack'))).toEqual([]);
    expect(names(join(node.paths.root, 'compressed/sha256'))).toEqual([]);
    expect(node.state.layers.get((image.layers[0] as LabImage['layers'][number]).descriptor.digest)).toBeUndefined();
    await next.close();
  });
});

describe('an image', () => {
  it.each(['layer', 'image'] as const)('leaves nothing where nothing is to be kept (%s)', async (way) => {
    const lab = await UnpackLab.start();
    const layers = (['gzip', 'none'] as const).map((kind, i) => labLayer(tarOf({ path: `f${i}`, data: 'x' }), kind));
    const image = await lab.lab.push('1', layers);
    const node = await lab.node();
    const unpacker = await lab.unpacker(node, { keep_compressed: false, fill_cache: false });
    if (way === 'image') await lab.unpackImage(unpacker, node, image);
    else for (const i of layers.keys()) await lab.take(unpacker, await lab.request(node, image, i));
    await unpacker.idle();
    expect(unpacker.status().jobs).toEqual([]);
    expect(node.state.layers.list()).toEqual([]);
    for (const place of ['unpack', 'compressed/sha256']) expect(names(join(node.paths.root, place))).toEqual([]);
  });

  it('may have a layer twice, and again above what hides it', async () => {
    const lab = await UnpackLab.start();
    const twice = labLayer(tarOf({ path: 'a', data: 'from the layer' }, { path: 'b', data: 'too' }), 'gzip');
    const between = labLayer(tarOf({ path: '.wh.a' }, { path: 'b', data: 'changed' }), 'zstd');
    const image = await lab.lab.push('1', [twice, twice, between, twice]);
    const node = await lab.node();
    const unpacker = await lab.unpacker(node);
    const dir = await lab.unpackImage(unpacker, node, image);
    expect(['a', 'b'].map((name) => readFileSync(join(dir, name), 'utf8'))).toEqual(['from the layer', 'too']);
    const trees = await Promise.all(
      image.layers.map(async (_, i) => await unpacker.unpackLayer(await lab.request(node, image, i), { signal })),
    );
    expect(new Set(trees.map(({ job }) => job)).size).toBe(2);
  });

  it('that says of one layer that it unpacks to two things is refused', async () => {
    const lab = await UnpackLab.start();
    const real = labLayer(tarOf({ path: 'a', data: 'x' }), 'gzip');
    const image = await lab.lab.push('1', [real, { ...real, diffId: labLayer(tarOf()).diffId }]);
    const node = await lab.node();
    const unpacker = await lab.unpacker(node);
    await expect(lab.unpackImage(unpacker, node, image)).rejects.toMatchObject({ code: 'ERR_UNPACK_DIFF_ID' });
    expect(names(lab.lab.dir)).toEqual(['node-0']);
  });

  it('may have sixty layers', async () => {
    const lab = await UnpackLab.start();
    const kinds = ['gzip', 'none'] as const;
    const layers = Array.from({ length: 60 }, (_, i) =>
      labLayer(
        tarOf({ path: 'd', type: 'dir' }, { path: `d/${i}`, data: `${i}` }, { path: `d/.wh.${i - 7}` }),
        kinds[i % 2],
      ),
    );
    const image = await lab.lab.push('1', layers);
    const node = await lab.node();
    const unpacker = await lab.unpacker(node, { fill_cache: false });
    const dir = await lab.unpackImage(unpacker, node, image);
    const left = ['53', '54', '55', '56', '57', '58', '59'];
    expect(names(join(dir, 'd'))).toEqual(left);
    expect(left.map((name) => readFileSync(join(dir, 'd', name), 'utf8'))).toEqual(left);
    const { unpacks, downloads } = unpacker.status();
    expect([unpacks.held, unpacks.waiting, downloads.held, downloads.waiting]).toEqual([0, 0, 0, 0]);
    await unpacker.idle();
    expect(unpacker.status().jobs).toEqual([]);
  });
});

describe('the place of an image', () => {
  it('is not chosen by others', async () => {
    const { mkdirSync, symlinkSync, writeFileSync, chmodSync } = await import('node:fs');
    const lab = await UnpackLab.start();
    const image = await lab.lab.push('1', [labLayer(tarOf({ path: 'a', data: 'x' }), 'gzip')]);
    const node = await lab.node();
    const unpacker = await lab.unpacker(node);
    mkdirSync(lab.path('precious'));
    writeFileSync(lab.path('precious/file'), 'kept');
    symlinkSync(lab.path('precious'), lab.path('.linked.unpacking'));
    await expect(lab.unpackImage(unpacker, node, image, { dir: lab.path('linked') })).rejects.toMatchObject({
      code: 'ERR_UNPACK_DESTINATION',
    });
    expect(readFileSync(lab.path('precious/file'), 'utf8')).toBe('kept');
    mkdirSync(lab.path('.open.unpacking'));
    chmodSync(lab.path('.open.unpacking'), 0o777);
    await expect(lab.unpackImage(unpacker, node, image, { dir: lab.path('open') })).rejects.toMatchObject({
      code: 'ERR_UNPACK_DESTINATION',
    });
    // What one of ours left that was killed is cleared away.
    mkdirSync(lab.path('.left.unpacking/fs/half'), { recursive: true, mode: 0o700 });
    expect(names(await lab.unpackImage(unpacker, node, image, { dir: lab.path('left') }))).toEqual(['a']);
    expect(names(lab.lab.dir)).not.toContain('.left.unpacking');
  });
});
