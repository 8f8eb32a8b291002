// Containers over lazy layers: what they see, what they change, and many of them at once.
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { changedAnswer, changedLower, changedUpper, changingScript } from '../support/changed-files.ts';
import { layerBytesSent, type PushedImage } from '../support/container-image.ts';
import { canMount } from '../support/peel-node.ts';
import { SnapshotterWorld } from '../support/snapshotter-world.ts';

describe.skipIf(!canMount).each(['auto', 'native'])('containers over lazy layers, transport %s', (transport) => {
  let world: SnapshotterWorld;
  let image: PushedImage;

  beforeAll(async () => {
    const config = ['[snapshotter]', `transport = "${transport}"`];
    world = await SnapshotterWorld.start({ config: () => config });
    const unread = { name: 'unread', data: randomBytes(6 << 20) };
    image = await world.image('changed', [[...changedLower, unread], changedUpper]);
    world.registry.front.forget();
    await world.pull(image.reference);
  });
  beforeEach(() => world.explainFailure());
  afterAll(async () => expect(await world.close()).toEqual([]));

  it('write, delete, rename and replace what is below, each for itself', async () => {
    for (const round of ['first', 'second']) {
      const { out, err } = await world.containerd.run(image.reference, ['sh', '-c', changingScript]);
      expect({ round, err, out }).toEqual({ round, err: '', out: changedAnswer });
    }
    const { layers, deferred } = await world.daemon.status();
    expect(deferred).toEqual([]);
    expect(layers).toHaveLength(image.layers.length);
    const sent = layerBytesSent(world.registry, image);
    expect(sent).toBeGreaterThan(0);
    expect(sent).toBeLessThan(image.layerBytes - (5 << 20));
  });

  // What they share is made before any transport has a part in it.
  if (transport === 'auto')
    it('are eight at once of four images', async () => {
      const images = await Promise.all(
        Array.from(
          { length: 4 },
          async (_, i) => await world.image(`many-${i}`, [[{ name: 'mine', data: `image ${i}\n` }]]),
        ),
      );
      const twice = [...images, ...images];
      const results = await Promise.all(
        twice.map(async ({ reference }, i) => {
          if (i < images.length) await world.containerd.cri.pull(reference);
          else await world.pull(reference, `other-${i}`);
          const namespace = i < images.length ? 'k8s.io' : `other-${i}`;
          const command = `cat /mine && echo ${i} > /mine && cat /mine && sha256sum /usr/bin/ls`;
          return await world.containerd.run(reference, ['sh', '-c', command], { namespace });
        }),
      );
      const sums = new Set(results.map(({ out }) => out.split('\n')[2]));
      expect(results.map(({ out }) => out.split('\n').slice(0, 2))).toEqual(
        twice.map((_, i) => [`image ${i % 4}`, `${i}`]),
      );
      expect(sums.size).toBe(1);
      // The shell is one layer for all images, of whichever namespace.
      expect((await world.daemon.status()).layers).toHaveLength(image.layers.length + images.length);
    });
});
