// Layers that are unpacked while others read them lazily, and by indexes that may lie.
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { onTestFinished, describe, expect, it } from 'vitest';
import { forBlob, heldBack } from '../support/faults.ts';
import { labLayer } from '../support/image-lab.ts';
import { listTree, treeDifference } from '../support/list-tree.ts';
import { canMount, PeelNode } from '../support/peel-node.ts';
import { eventually } from '../support/proxy-stack.ts';
import type { Described } from '../support/tar-members.ts';
import { tarOf } from '../support/tar-members.ts';
import { UnpackLab } from '../support/unpack-lab.ts';

const spanSize = 32 << 10;
const members: readonly (readonly Described[])[] = [
  [
    { path: 'd', type: 'dir', mode: 0o711 },
    { path: 'd/a', data: randomBytes(400_000), mode: 0o4755 },
    { path: 'd/gone', data: 'x' },
  ],
  [
    { path: 'd', type: 'dir', mode: 0o700 },
    { path: 'd/b', data: randomBytes(300_000) },
    { path: 'd/.wh.gone' },
    { path: 'd/l', type: 'symlink', link: 'a' },
  ],
];
const stack = () => members.map((each) => labLayer(tarOf({ path: '.', type: 'dir' }, ...each)));

describe('an image that is open lazily', () => {
  it('is unpacked by the same node, and both are right', async () => {
    const lab = await UnpackLab.start();
    const image = await lab.lab.push('1', stack());
    await lab.lab.pushIndex(image, { spanSize });
    const node = await lab.node();
    const opened = await node.openImage(image.reference);
    onTestFinished(() => opened.close());
    const [first] = opened.openLayers;
    const before = await first?.read(0, 50_000);
    const unpacker = await lab.unpacker(node, { chunk_size: 65_536 });
    const dir = await lab.unpackImage(unpacker, node, image);
    expect(readFileSync(join(dir, 'd/a')).equals(members[0]?.[1]?.data as Buffer)).toBe(true);
    expect(readdirSync(join(dir, 'd')).toSorted()).toEqual(['a', 'b', 'l']);
    // Nobody asks for what was unpacked any more.
    lab.lab.front.forget();
    const { size } = image.layers[0]?.descriptor ?? { size: 0 };
    expect((await first?.read(0, size))?.equals(image.layers[0]?.tar as Buffer)).toBe(true);
    expect(before?.equals((image.layers[0]?.tar as Buffer).subarray(0, 50_000))).toBe(true);
    expect(lab.lab.front.seen('/blobs/')).toEqual([]);
    await unpacker.idle();
    expect(first?.complete).toBe(true);
  });

  it.skipIf(!canMount)('by another process is unpacked, and mounted again without the registry', async () => {
    const lab = await UnpackLab.start();
    const image = await lab.lab.push('1', stack());
    await lab.lab.pushIndex(image, { spanSize });
    const node = new PeelNode();
    onTestFinished(() => node.close());
    const mounted = await node.mount(image.reference, 'native');
    // Not at once: the registry is in this process.
    expect((await readFile(join(mounted, 'd/b'))).equals(members[1]?.[1]?.data as Buffer)).toBe(true);
    const out = join(node.dir, 'out');
    await node.ok(['unpack', image.reference, out]);
    const unpacked = await listTree(out);
    await lab.lab.front.close();
    expect(treeDifference(await listTree(mounted), unpacked)).toBe('');
    await node.umount(mounted);
    const again = await node.mount(image.reference, 'native', '--pull', 'missing');
    expect(treeDifference(await listTree(again), unpacked)).toBe('');
    await node.umount(again);
  });
});

describe('an index of somebody else', () => {
  it('names members, and those of the layer itself are unpacked', async () => {
    const lab = await UnpackLab.start();
    const honest = tarOf({ path: 'honest', data: 'x' }, { path: 'secret', data: 'y', mode: 0o600 });
    const image = await lab.lab.push('1', [labLayer(honest, 'none')]);
    const node = await lab.node();
    const renamed = (ztoc: Uint8Array) =>
      Buffer.from(Buffer.from(ztoc).toString('latin1').replaceAll('honest', 'wicked'), 'latin1');
    await lab.openLazily(node, image, 0, { spanSize, change: renamed }, async (layer) => {
      // It is a lie that lazy reading takes.
      expect(layer.entries().map(({ path }) => path)).toEqual(['wicked', 'secret']);
    });
    const unpacker = await lab.unpacker(node);
    const dir = await lab.take(unpacker, await lab.request(node, image));
    expect(readdirSync(dir)).toEqual(['honest', 'secret']);
  });

  it.each(['layer', 'image'] as const)('that is of another layer is done without (%s)', async (way) => {
    const lab = await UnpackLab.start();
    const [real, other] = [0, 1].map(() => labLayer(tarOf({ path: 'file', data: randomBytes(200_000) })));
    if (real === undefined || other === undefined) throw new Error('no layers');
    const image = await lab.lab.push('1', [real]);
    const node = await lab.node();
    await lab.openLazily(node, image, 0, { spanSize, of: other });
    const unpacker = await lab.unpacker(node);
    const dir =
      way === 'image'
        ? await lab.unpackImage(unpacker, node, image)
        : await lab.take(unpacker, await lab.request(node, image));
    expect(readFileSync(join(dir, 'file')).equals(real.tar.subarray(512, 200_512))).toBe(true);
  });

  it('that cannot be read any more is done without', async () => {
    const lab = await UnpackLab.start();
    const made = labLayer(tarOf({ path: 'file', data: randomBytes(200_000) }));
    const image = await lab.lab.push('1', [made]);
    const node = await lab.node();
    await lab.openLazily(node, image, 0, { spanSize });
    const unpacker = await lab.unpacker(node, { max_ratio: 1000, max_layer_size: 300_000 });
    let asked = 0;
    lab.lab.front.interfere(forBlob(made.descriptor.digest), (_request, _response, forward) => {
      asked += 1;
      forward();
    });
    const dir = await lab.take(unpacker, await lab.request(node, image));
    expect(asked).toBeGreaterThan(0);
    expect(readdirSync(dir)).toEqual(['file']);
  });
});

describe('what was downloaded of a layer', () => {
  it.each(['cache', 'store'] as const)(
    'in part is not kept for all of it when the rest comes from the %s',
    async (where) => {
      const lab = await UnpackLab.start();
      const made = labLayer(tarOf({ path: 'file', data: randomBytes(500_000) }));
      const image = await lab.lab.push('1', [made]);
      const node = await lab.node();
      const { digest } = made.descriptor;
      const unpacker = await lab.unpacker(node, { chunk_size: 65_536 });
      const held = heldBack({ bytes: made.blob }, 250_000);
      const stop = lab.lab.front.interfere(forBlob(digest), held.fault);
      const controller = new AbortController();
      const request = await lab.request(node, image);
      const cancelled = unpacker.unpackLayer(request, { signal: controller.signal }).catch(() => 'cancelled');
      await eventually(async () => (unpacker.status().jobs[0]?.done ?? 0) > 150_000, true);
      controller.abort();
      expect(await cancelled).toBe('cancelled');
      await eventually(async () => unpacker.status().jobs, [expect.objectContaining({ state: 'cancelled' })]);
      stop();
      held.release();
      const local = {
        name: 'another store',
        find: async () => ({
          name: 'another store',
          readRange: request.source.readRange.bind(request.source),
          readAll: request.source.readAll.bind(request.source),
        }),
      };
      if (where === 'cache')
        await lab.openLazily(node, image, 0, { spanSize }, (layer) =>
          layer.fillCache({ signal: AbortSignal.timeout(20_000) }),
        );
      const dir = await lab.take(unpacker, where === 'cache' ? request : { ...request, local });
      expect(readFileSync(join(dir, 'file')).length).toBe(500_000);
      await unpacker.idle();
      expect(existsSync(join(node.paths.root, 'compressed/sha256', digest.slice(7)))).toBe(false);
    },
  );
});
