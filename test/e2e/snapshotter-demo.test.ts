// The image of the demo in a container: pulled as a kubelet does, and then by a person into another namespace.
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { DemoImage } from '../../src/cli/demo/build-image.ts';
import { LayoutRegistry } from '../../src/registry/layout-registry.ts';
import { demoLayout } from '../support/demo-image.ts';
import { canMount } from '../support/peel-node.ts';
import { SnapshotterWorld } from '../support/snapshotter-world.ts';

describe.skipIf(!canMount)('the demo image in a container', () => {
  let world: SnapshotterWorld;
  let image: DemoImage;
  let reference: string;

  beforeAll(async () => {
    world = await SnapshotterWorld.start({
      store: async (dir) => {
        image = await demoLayout(dir);
        return new LayoutRegistry(dir);
      },
    });
    reference = `${world.registry.front.host}/demo:demo`;
    await world.index(reference, '1MiB', '10MiB');
    world.registry.front.forget();
  }, 240_000);
  beforeEach(() => world.explainFailure());
  afterAll(async () => expect(await world.close()).toEqual([]));

  const layerBytes = () => image.layers.reduce((sum, { digest }) => sum + world.registry.front.bytes(digest), 0);

  it('answers when CRI has pulled it, with under 20 % of the bytes of its layers', async () => {
    const { containerd, daemon } = world;
    await containerd.cri.pull(reference);
    const { layers, deferred } = await daemon.status();
    expect(deferred).toEqual([]);
    expect(layers.map(({ layer }) => layer).toSorted()).toEqual(image.layers.map(({ digest }) => digest).toSorted());
    expect(layers.filter(({ served }) => served === 'lazy').length).toBeGreaterThan(0);
    const { out, err } = await containerd.run(reference, [], { namespace: 'k8s.io' });
    const sent = layerBytes();
    expect(`${out}${err}`).toMatch(/^answer 42\n/);
    const all = image.layers.reduce((sum, { size }) => sum + size, 0);
    expect(sent / all).toBeGreaterThan(0.001);
    expect(sent / all).toBeLessThan(0.2);
  });

  it('shares its layers with a second namespace, into which `peel pull` brings it', async () => {
    const { containerd, daemon } = world;
    const before = { bytes: layerBytes(), slots: await slots() };
    await world.pull(reference);
    expect(await slots()).toEqual(before.slots);
    const { out } = await containerd.run(reference);
    expect(out).toMatch(/^answer 42\n/);
    expect(layerBytes()).toBe(before.bytes);
    expect((await daemon.status()).deferred).toEqual([]);
  });

  async function slots(): Promise<string[]> {
    return (await world.daemon.status()).layers.map(({ slot }) => String(slot)).toSorted();
  }
});
