// Layers that lie, break or attack, through the whole unpacker: nothing leaves the directory, and nothing is seen of what was refused.
import { existsSync, lstatSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import type { Node } from '../../src/daemon/node.ts';
import type { NodeUnpacker } from '../../src/unpack/node-unpacker.ts';
import { forBlob } from '../support/faults.ts';
import { isFullScale, rounds } from '../support/fixtures.ts';
import { labLayer, sha256 } from '../support/image-lab.ts';
import type { LabCompression, LabImage, LabLayer } from '../support/image-lab.ts';
import { listTree } from '../support/list-tree.ts';
import type { Fault } from '../support/registry-front.ts';
import type { Described } from '../support/tar-members.ts';
import { memberBytes, tarOf } from '../support/tar-members.ts';
import { UnpackLab } from '../support/unpack-lab.ts';
import type { UnpackConfig } from '../support/unpack-lab.ts';

interface World {
  readonly lab: UnpackLab;
  readonly node: Node;
  readonly image: LabImage;
  readonly unpacker: NodeUnpacker;
  /** What attackers are after: a file beside everything that is unpacked. */
  readonly outside: string;
}

async function world(layers: readonly LabLayer[], config: UnpackConfig = {}): Promise<World> {
  const lab = await UnpackLab.start();
  const image = await lab.lab.push('1', layers);
  const node = await lab.node();
  const outside = lab.path('outside');
  mkdirSync(outside);
  writeFileSync(join(outside, 'victim'), 'untouched');
  return { lab, node, image, unpacker: await lab.unpacker(node, config), outside };
}

type Way = 'layer' | 'image';
const ways = ['layer', 'image'] as const;

const { signal } = new AbortController();

async function unpack(w: World, way: Way): Promise<string> {
  if (way === 'image') return await w.lab.unpackImage(w.unpacker, w.node, w.image);
  return await w.lab.take(w.unpacker, await w.lab.request(w.node, w.image, w.image.layers.length - 1));
}

/** Nothing is outside, and nothing half visible. */
function expectClean({ lab, node, unpacker, outside }: World): void {
  expect(readdirSync(outside)).toEqual(['victim']);
  expect(readFileSync(join(outside, 'victim'), 'utf8')).toBe('untouched');
  expect(readdirSync(lab.lab.dir).toSorted()).toEqual(['node-0', 'outside']);
  const jobs = join(node.paths.root, 'unpack');
  for (const job of existsSync(jobs) ? readdirSync(jobs) : []) {
    const left = readdirSync(join(jobs, job));
    expect(left.filter((name) => !['lock', 'blob', 'chunks'].includes(name))).toEqual([]);
  }
  const { unpacks, downloads } = unpacker.status();
  expect([unpacks.held, unpacks.waiting, downloads.held, downloads.waiting]).toEqual([0, 0, 0, 0]);
}

async function expectRefused(w: World, way: Way, code: string, message: string | RegExp): Promise<void> {
  const error: unknown = await unpack(w, way).catch((reason: unknown) => reason);
  expect(error).toMatchObject({ name: 'UnpackError', code });
  expect((error as Error).message).toMatch(message);
  expectClean(w);
  const failed = w.unpacker.status().jobs.filter(({ state }) => state === 'failed');
  expect(failed.map(({ cause }) => cause)).toEqual([expect.stringMatching(message)]);
}

/** A blob that is what the manifest says, and no layer. */
function layerOf(blob: Buffer, kind: LabCompression, tar: Buffer): LabLayer {
  const { descriptor, diffId } = labLayer(tar, kind);
  return { tar, blob, diffId, descriptor: { ...descriptor, digest: sha256(blob), size: blob.length } };
}

const escapes: readonly [string, readonly Described[], RegExp][] = [
  ['goes up', [{ path: '../evil', data: 'x' }], /\.\.\/evil/],
  ['goes up in the end', [{ path: 'a/b/../../../evil', data: 'x' }], /a\/b\/\.\.\/\.\.\/\.\.\/evil/],
  ['is a directory above', [{ path: '..', type: 'dir' }], /\.\./],
  ['is a link to a file above', [{ path: 'evil', type: 'hardlink', link: '../../outside/victim' }], /evil/],
  [
    'goes up through a link',
    [
      { path: 'l', type: 'symlink', link: '../../outside' },
      { path: 'l/../../evil', data: 'x' },
    ],
    /l\/\.\.\/\.\.\/evil/,
  ],
  ['deletes what is above', [{ path: '../.wh.outside' }], /\.\.\/\.wh\.outside/],
];

describe.each(ways)('an entry that would leave the directory (%s)', (way) => {
  // One reader and one applier serve both ways.
  it.each(way === 'layer' || isFullScale() ? escapes : escapes.slice(1, 4))('%s', async (_what, members, message) => {
    const w = await world([labLayer(tarOf({ path: 'first', data: 'fine' }, ...members), 'gzip')]);
    await expectRefused(w, way, 'ERR_UNPACK_ENTRY', message);
  });
});

it.each(['layer', 'image'] as const)('a hard link to a file of the machine does not find it (%s)', async (way) => {
  const w = await world([labLayer(tarOf({ path: 'evil', type: 'hardlink', link: '/etc/passwd' }), 'gzip')]);
  await expectRefused(w, way, way === 'layer' ? 'ERR_UNPACK_BELOW' : 'ERR_UNPACK_ENTRY', /evil/);
});

describe.each(ways)('an entry that only looks as if it left (%s)', (way) => {
  it('stays below: absolute names, and links that are written through', async () => {
    const lab = await UnpackLab.start();
    const outside = lab.path('outside');
    const members: Described[] = [
      { path: '/abs', type: 'dir' },
      { path: '/abs/file', data: 'abs' },
      { path: 'l', type: 'symlink', link: outside },
      { path: 'l/victim', data: 'in the image' },
      { path: 'up', type: 'symlink', link: '../../../../../../../../../..' },
      { path: 'up/file', data: 'below' },
      { path: 'loop', type: 'symlink', link: 'up' },
      { path: 'loop/other', data: 'below too' },
    ];
    const image = await lab.lab.push('1', [labLayer(tarOf(...members), 'zstd')]);
    const node = await lab.node();
    const w = { lab, image, node, unpacker: await lab.unpacker(node), outside };
    mkdirSync(outside);
    writeFileSync(join(outside, 'victim'), 'untouched');
    const found = await unpack(w, way);
    expect(readFileSync(join(outside, 'victim'), 'utf8')).toBe('untouched');
    expect(readdirSync(outside)).toEqual(['victim']);
    expect(readFileSync(join(found, outside, 'victim'), 'utf8')).toBe('in the image');
    expect(readFileSync(join(found, 'abs/file'), 'utf8')).toBe('abs');
    expect(readFileSync(join(found, 'file'), 'utf8')).toBe('below');
    expect(readFileSync(join(found, 'other'), 'utf8')).toBe('below too');
  });

  it('stays below where links become directories and links again', async () => {
    const lab = await UnpackLab.start();
    const outside = lab.path('outside');
    mkdirSync(outside);
    writeFileSync(join(outside, 'victim'), 'untouched');
    const link: Described = { path: 'd/l', type: 'symlink', link: outside };
    const image = await lab.lab.push('1', [
      labLayer(
        tarOf(
          { path: 'd', type: 'dir' },
          link,
          { path: 'd/l', type: 'dir' },
          { path: 'd/l/victim', data: 'in a directory' },
          link,
          { path: 'd', type: 'symlink', link: outside },
          { path: 'd', type: 'dir' },
          { path: 'd/victim', data: 'in another' },
          { path: 'd/l', type: 'symlink', link: '.' },
          { path: 'd/l/victim', data: 'through the link' },
        ),
        'gzip',
      ),
    ]);
    const node = await lab.node();
    const found = await unpack({ lab, image, node, unpacker: await lab.unpacker(node), outside }, way);
    expect(readdirSync(outside)).toEqual(['victim']);
    expect(readFileSync(join(outside, 'victim'), 'utf8')).toBe('untouched');
    expect(lstatSync(join(found, 'd')).isDirectory()).toBe(true);
    expect(readFileSync(join(found, 'd/victim'), 'utf8')).toBe('through the link');
  });

  it('is the last of its name, whatever kinds the others are', async () => {
    const device = { type: 'char', major: 1, minor: 3 } as const;
    const w = await world([
      labLayer(
        tarOf(
          { path: 'a', data: 'file' },
          { path: 'a', ...device },
          { path: 'b', ...device },
          { path: 'b', data: 'x', mode: 0o600 },
          { path: 'b', data: 'file', mode: 0o640 },
          { path: 'c', type: 'fifo' },
          { path: 'c', type: 'symlink', link: 'b' },
          { path: 'e', data: 'old' },
          { path: 'f', type: 'hardlink', link: 'e' },
          { path: 'e', data: 'new' },
        ),
        'gzip',
      ),
    ]);
    const found = await unpack(w, way);
    expect(lstatSync(join(found, 'a')).isCharacterDevice()).toBe(true);
    expect(lstatSync(join(found, 'a')).rdev).toBe(0x103);
    expect(lstatSync(join(found, 'b')).mode & 0o7777).toBe(0o640);
    expect(readFileSync(join(found, 'c'), 'utf8')).toBe('file');
    expect([readFileSync(join(found, 'e'), 'utf8'), readFileSync(join(found, 'f'), 'utf8')]).toEqual(['new', 'old']);
    expect(lstatSync(join(found, 'f')).nlink).toBe(1);
  });
});

describe.each(ways)('a layer that is not what it should be (%s)', (way) => {
  const good = tarOf({ path: 'd', type: 'dir' }, { path: 'd/file', data: Buffer.alloc(200_000, 'text ') });

  it.each<[string, () => LabLayer, string, RegExp]>([
    ['is cut off', () => layerOf(gzipSync(good).subarray(0, -300), 'gzip', good), 'ERR_UNPACK_LAYER', /./],
    ['is cut off in a header', () => labLayer(good.subarray(0, 700)), 'ERR_UNPACK_LAYER', /./],
    [
      'goes on behind its end',
      () => layerOf(Buffer.concat([gzipSync(good), Buffer.from('garbage')]), 'gzip', good),
      'ERR_UNPACK_LAYER',
      /./,
    ],
    ['is no tar', () => labLayer(Buffer.alloc(4096, 'nonsense'), 'gzip'), 'ERR_UNPACK_LAYER', /./],
    [
      'unpacks to something else',
      () => ({ ...labLayer(good, 'gzip'), diffId: sha256(Buffer.from('other')) }),
      'ERR_UNPACK_DIFF_ID',
      /./,
    ],
  ])('%s', async (_what, layer, code, _message) => {
    const made = layer();
    const w = await world([labLayer(tarOf({ path: 'below', data: '1' }), 'zstd'), made]);
    await expectRefused(w, way, code, new RegExp(made.descriptor.digest));
    // Nothing of it is gone on with.
    for (const job of readdirSync(join(w.node.paths.root, 'unpack')))
      expect(readdirSync(join(w.node.paths.root, 'unpack', job))).not.toContain(way === 'layer' ? 'blob' : 'fs');
  });

  it.skipIf(way === 'image' && !isFullScale())('unpacks to more than it may', async () => {
    const kind = way === 'image' ? 'zstd' : 'gzip';
    const zeros = tarOf({ path: 'zeros', data: Buffer.alloc(66 << 20) });
    const w = await world([labLayer(zeros, kind)], { max_ratio: 100 });
    await expectRefused(w, way, 'ERR_UNPACK_LIMIT', /100/);
  });

  it('is larger than it may be', async () => {
    const w = await world([labLayer(good, 'gzip')], { max_layer_size: 100_000 });
    await expectRefused(w, way, 'ERR_UNPACK_LIMIT', /100000/);
  });

  it('came damaged once, and is fetched again', async () => {
    const layer = labLayer(good, 'none');
    const w = await world([layer], { chunk_size: 65_536 });
    let damaged = 0;
    w.lab.lab.front.interfere(
      (request) => forBlob(layer.descriptor.digest)(request) && damaged++ < 1,
      flipsByte(() => {}),
    );
    const found = await unpack(w, way);
    expect(damaged).toBe(8);
    expect(readFileSync(join(found, 'd/file')).equals(Buffer.alloc(200_000, 'text '))).toBe(true);
  });

  it('comes damaged each time', async () => {
    const layer = labLayer(good, 'none');
    const w = await world([layer], { chunk_size: 65_536 });
    let damaged = 0;
    const stop = w.lab.lab.front.interfere(
      forBlob(layer.descriptor.digest),
      flipsByte(() => (damaged += 1)),
    );
    await expectRefused(w, way, 'ERR_UNPACK_DIGEST', new RegExp(layer.descriptor.digest));
    expect(damaged).toBe(8);
    // What came is not gone on with when the registry is well again.
    stop();
    const found = await unpack(w, way);
    expect(readdirSync(join(found, 'd'))).toEqual(['file']);
  });

  it('is damaged on the node, and is fetched again', async () => {
    const layer = labLayer(good, 'gzip');
    const w = await world([layer], { fill_cache: false });
    const place = join(w.node.paths.root, 'compressed/sha256');
    mkdirSync(place, { recursive: true });
    writeFileSync(join(place, layer.descriptor.digest.slice(7)), Buffer.alloc(layer.blob.length, 'no layer'));
    const found = await unpack(w, way);
    expect(readdirSync(join(found, 'd'))).toEqual(['file']);
    await w.unpacker.idle();
    expect(readFileSync(join(place, layer.descriptor.digest.slice(7))).equals(layer.blob)).toBe(true);
  });
});

it('50 000 entries are on the disk in a while', async () => {
  const count = rounds(50_000, 5_000, 0.1);
  const members = Array.from({ length: count }, (_, i) => memberBytes({ path: `d/${i % 100}/${i}`, data: `${i}` }));
  const dirs = Array.from({ length: 100 }, (_, i) => memberBytes({ path: `d/${i}`, type: 'dir' }));
  const tar = Buffer.concat([memberBytes({ path: 'd', type: 'dir' }), ...dirs, ...members, Buffer.alloc(1024)]);
  const w = await world([labLayer(tar, 'zstd')], { fill_cache: false });
  const began = performance.now();
  const tree = await w.unpacker.unpackLayer(await w.lab.request(w.node, w.image), { signal });
  expect(performance.now() - began).toBeLessThan(60_000);
  const lines = await listTree(tree.dir, { xattrs: false, hash: false });
  expect(lines.length).toBe(count + 100 + 2);
  expect(readFileSync(join(tree.dir, `d/99/${count - 1}`), 'utf8')).toBe(`${count - 1}`);
});

/** The registry's answer with a byte changed in the middle, where it is a file's. */
function flipsByte(onFlip: () => void): Fault {
  return (_request, response, _forward, ask) =>
    void ask().then(({ status, headers, body }) => {
      onFlip();
      const at = body.length >> 1;
      body.writeUInt8(body.readUInt8(at) ^ 1, at);
      response.writeHead(status, headers).end(body);
    });
}
