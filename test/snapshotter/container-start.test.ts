// Who is told that a container starts above layers of an image, and what.
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { imageLabels } from '../../src/snapshotter/image-labels.ts';
import { ImageLab, labLayer } from '../support/image-lab.ts';
import { LayersProcess } from '../support/layers-process.ts';
import { canMount } from '../support/peel-node.ts';
import { snapshotsWorld } from '../support/snapshots-world.ts';
import { tarOf } from '../support/tar-members.ts';

const ref = 'containerd.io/snapshot.ref';
const chain = (at: number) => `sha256:${at.toString(16).padStart(64, '0')}`;
const manifest = `sha256:${'d'.repeat(64)}`;
const labels = { [imageLabels.reference[0]]: 'registry.test/app:1', [imageLabels.manifest[0]]: manifest };

describe('an active snapshot', () => {
  it('is the start of a container, above whatever is served', async () => {
    const { client, layers } = await snapshotsWorld();
    const slots = [1, 2].map((at) => layers.offer(chain(at)).slot);
    let parent = '';
    for (const at of [1, 2]) {
      await client.prepare(`extract-${at}`, parent, { ...labels, [ref]: chain(at) }).catch(() => undefined);
      parent = (await client.list(`labels."${ref}"==${chain(at)}`))[0]?.name ?? '';
    }
    const start = { slots, image: 'registry.test/app:1', manifest };
    // A layer that containerd unpacks is no container, and a view runs nothing.
    await client.prepare('extract-3', parent, { ...labels, [ref]: chain(3) });
    await client.commit('third', 'extract-3', {});
    await client.view('view', parent);
    expect(layers.starts).toEqual([]);
    await client.prepare('container', parent);
    expect(layers.starts).toEqual([start]);
    // Above a layer with a directory, and above what somebody made of a container.
    await client.prepare('changed', 'third');
    await client.commit('committed', 'changed', {});
    await client.prepare('other', 'committed');
    const above = { ...start, manifest: undefined };
    expect(layers.starts.slice(1)).toEqual([above, above]);
  });

  it('is not one where nothing is served', async () => {
    const { client, layers } = await snapshotsWorld();
    await client.prepare('first', '');
    await client.commit('base', 'first', {});
    await client.prepare('container', 'base');
    expect(layers.starts).toEqual([]);
  });

  it('is there also when nobody can be told', async () => {
    const { client, layers } = await snapshotsWorld();
    layers.offer(chain(1));
    await client.prepare('extract', '', { ...labels, [ref]: chain(1) }).catch(() => undefined);
    layers.starting = () => {
      throw new Error('not now');
    };
    expect(await client.prepare('container', chain(1))).toHaveLength(1);
  });
});

describe.skipIf(!canMount)('the layers of a container that starts', () => {
  it('are handed on with the manifest of their image, as far as they are read here', async () => {
    const lab = await ImageLab.start();
    const members = [1, 2].map((at) => ({ path: `big-${at}`, data: randomBytes(300_000) }));
    const image = await lab.push(
      '1',
      members.map((member) => labLayer(tarOf({ path: './', type: 'dir' }, member))),
    );
    await lab.pushIndex(image, { spanSize: 64 << 10 });
    const layers = await LayersProcess.start(join(lab.dir, 'root'), { transport: 'native' });
    const outcomes = await layers.pull(image, { [imageLabels.manifest[0]]: '' });
    const slots = outcomes.map((outcome) => (outcome.kind === 'served' ? outcome.slot : 0));
    const { reference } = image;
    const digests = image.layers.map(({ descriptor }) => descriptor.digest);
    await layers.call('starting', { slots, image: reference });
    await layers.call('starting', { slots: [99, ...slots.slice(1)], image: reference, manifest });
    await layers.call('starting', { slots: [99], image: reference, manifest });
    await layers.call('starting', { slots, image: 'localhost:1/unknown:1' });
    await expect.poll(() => layers.starts()).toHaveLength(2);
    expect(await layers.starts()).toEqual([
      { reference, image: manifest, layers: digests.slice(1) },
      { reference, image: image.digest, layers: digests },
    ]);
  });
});
