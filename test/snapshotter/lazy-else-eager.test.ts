// Images of which some layers are served, and others unpacked.
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { SnapshotLayersConfig } from '../../src/snapshotter/snapshot-layers.ts';
import { ImageLab, labLayer } from '../support/image-lab.ts';
import { LayersProcess } from '../support/layers-process.ts';
import { canMount } from '../support/peel-node.ts';
import { tarOf } from '../support/tar-members.ts';

const spanSize = 64 << 10;
const lazyLayer = () =>
  labLayer(tarOf({ path: './', type: 'dir', mode: 0o751 }, { path: 'big', data: randomBytes(200_000) }));

async function start(lab: ImageLab, config: Partial<SnapshotLayersConfig> = {}): Promise<LayersProcess> {
  return await LayersProcess.start(join(lab.dir, 'root'), { mode: 'lazy-else-eager', ...config });
}

describe.skipIf(!canMount)('in mode lazy-else-eager', () => {
  it('what an index leaves out and is large, or cannot be used, is unpacked between layers that are served', async () => {
    const lab = await ImageLab.start();
    const [bottom, out, damaged, top] = [lazyLayer(), lazyLayer(), lazyLayer(), lazyLayer()];
    const image = await lab.push('1', [bottom, out, damaged, top]);
    const change = (ztoc: Uint8Array, { diffId }: { diffId: string }) =>
      diffId === damaged.diffId ? Buffer.from('no zTOC') : ztoc;
    await lab.pushIndex({ ...image, layers: [bottom, damaged, top] }, { spanSize, change });
    const layers = await start(lab, { wholeLayerLimit: 10 });
    expect(await layers.pull(image)).toMatchObject([
      { kind: 'served', slot: 1 },
      { kind: 'unpacked', layer: out.descriptor.digest, reason: expect.stringMatching(/leaves it out/) },
      { kind: 'unpacked', reason: expect.stringMatching(/cannot be used/) },
      { kind: 'served', slot: 2 },
    ]);
    // Those that are served stay lazy.
    expect(await layers.status()).toMatchObject([{ serving: 'lazy' }, { serving: 'lazy' }]);
  });

  it('what makes no tree above a directory is unpacked, unless it links to what is below', async () => {
    const lab = await ImageLab.start();
    const [unindexed, linked] = [lazyLayer(), labLayer(tarOf({ path: 'again', type: 'hardlink', link: 'big' }))];
    const treeless = labLayer(tarOf({ path: 'nowhere/file', data: randomBytes(1000) }));
    const image = await lab.push('1', [unindexed, treeless, linked]);
    await lab.pushIndex({ ...image, layers: [treeless, linked] }, { spanSize });
    const layers = await start(lab, { wholeLayerLimit: 10 });
    expect(await layers.pull(image)).toMatchObject([
      { kind: 'unpacked' },
      {
        kind: 'unpacked',
        reason: expect.stringMatching(/no tree of its own.*parent directory/),
        tree: { implied: ['', 'nowhere'] },
      },
      { kind: 'deferred', code: 'layer', reason: expect.stringMatching(/hard link/) },
    ]);
  });

  it('a layer that is served says what it has at a path, as the layers below make it', async () => {
    const lab = await ImageLab.start();
    const base = labLayer(
      tarOf(
        { path: 'real', type: 'dir', mode: 0o700, uid: 7 },
        { path: 'link', type: 'symlink', link: 'real' },
        { path: 'file', data: 'x' },
      ),
    );
    const above = labLayer(
      tarOf(
        { path: './', type: 'dir', mode: 0o751 },
        { path: 'link/in', type: 'dir', mode: 0o711 },
        { path: 'dir', type: 'dir' },
        { path: 'dir/.wh..wh..opq' },
        { path: '.wh.file' },
      ),
    );
    const image = await lab.push('1', [base, above]);
    await lab.pushIndex(image, { spanSize });
    const layers = await start(lab);
    expect(await layers.pull(image)).toMatchObject([{ kind: 'served' }, { kind: 'served' }]);
    const paths = ['', 'real', 'real/in', 'link', 'file', 'dir', 'none'];
    expect(await layers.nodesAt(2, [1], paths)).toMatchObject([
      { kind: 'directory', attributes: { mode: 0o751 } },
      { kind: 'directory', opaque: false, attributes: { mode: 0o700, uid: 7 } },
      { kind: 'directory', attributes: { mode: 0o711 } },
      null,
      { kind: 'whiteout' },
      { kind: 'directory' },
      null,
    ]);
    const [root, link] = await layers.nodesAt(1, [], ['', 'link']);
    expect(root).toEqual({ kind: 'directory', opaque: false });
    expect(link).toEqual({ kind: 'other', type: 'symlink' });
  });

  it('in mode eager a layer that is served already is served again where all of it is here', async () => {
    const lab = await ImageLab.start();
    const small = labLayer(tarOf({ path: './', type: 'dir' }, { path: 'small', data: 'small' }), 'gzip');
    const [one, two] = [await lab.push('1', [lazyLayer(), small]), await lab.push('2', [small, lazyLayer()])];
    await lab.pushIndex({ ...one, layers: one.layers.slice(0, 1) }, { spanSize });
    const lazy = await start(lab);
    expect(await lazy.pull(one)).toMatchObject([{ kind: 'served' }, { kind: 'served' }]);
    await lazy.stop();
    const eager = await start(lab, { mode: 'eager' });
    expect(await eager.pull(two)).toMatchObject([{ kind: 'served' }, { kind: 'unpacked' }]);
    expect(await eager.pull(one)).toMatchObject([{ kind: 'unpacked' }, { kind: 'served' }]);
  });
});
