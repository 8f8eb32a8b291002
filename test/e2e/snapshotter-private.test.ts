// Private registries: the daemon reads with what docker's configuration says, or with what the kubelet pulled with.
import { randomBytes } from 'node:crypto';
import { rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { layerBytesSent, type PushedImage } from '../support/container-image.ts';
import { CriClient } from '../support/cri-client.ts';
import { canMount } from '../support/peel-node.ts';
import { SnapshotterWorld } from '../support/snapshotter-world.ts';
import { askForTokens } from '../support/token-front.ts';

const [user, password] = ['ann', `pass-${randomBytes(6).toString('hex')}`];

describe.skipIf(!canMount)('a private image', () => {
  let world: SnapshotterWorld;
  let first: PushedImage;
  let second: PushedImage;
  let criSocket: string;

  beforeAll(async () => {
    world = await SnapshotterWorld.start({
      config: (containerd, daemon) => {
        criSocket = path.join(daemon.runDir, 'cri.sock');
        const cri = ['enabled = true', `socket = "${criSocket}"`, `upstream = "${containerd.socket}"`];
        return ['[credentials.cri]', ...cri];
      },
    });
    const content = (name: string) => [
      [
        { name: 'name', data: name },
        { name: 'unread', data: randomBytes(3 << 20) },
      ],
    ];
    first = await world.image('first', content('first'));
    second = await world.image('second', content('second'));
    askForTokens(world.registry.front, user, password);
    world.registry.front.forget();
  });
  beforeEach(() => world.explainFailure());
  afterAll(async () => {
    const { log } = world.daemon;
    expect(await world.close()).toEqual([]);
    expect(log).not.toContain(password);
  });

  it('is unpacked by containerd while only the kubelet has its password', async () => {
    await world.containerd.cri.pull(first.reference, { username: user, password });
    const { layers, deferrals } = await world.daemon.status();
    expect(layers).toEqual([]);
    expect(deferrals['registry']).toBeGreaterThan(0);
    expect((await runs(first)).out).toBe('first');
    await world.containerd.cri.remove(first.reference);
  });

  it("is lazy with the password of docker's configuration", async () => {
    const auth = Buffer.from(`${user}:${password}`).toString('base64');
    const file = path.join(world.daemon.env['DOCKER_CONFIG'] ?? '', 'config.json');
    writeFileSync(file, JSON.stringify({ auths: { [world.registry.front.host]: { auth } } }));
    world.registry.front.forget();
    await world.containerd.cri.pull(second.reference, { username: user, password });
    await expectLazy(second, 'second');
    rmSync(file);
  });

  it('is lazy with the password that came by the image endpoint', async () => {
    const cri = new CriClient(criSocket);
    try {
      world.registry.front.forget();
      await cri.pull(first.reference, { username: user, password });
      await expectLazy(first, 'first');
    } finally {
      cri.close();
    }
  });

  async function expectLazy(image: PushedImage, name: string): Promise<void> {
    const { layers } = await world.daemon.status();
    expect(layers.map(({ layer }) => layer)).toEqual(
      expect.arrayContaining(image.layers.map(({ descriptor }) => descriptor.digest)),
    );
    expect((await runs(image)).out).toBe(name);
    const sent = layerBytesSent(world.registry, image);
    expect(sent).toBeGreaterThan(0);
    expect(sent).toBeLessThan(image.layerBytes - (2 << 20));
  }

  async function runs(image: PushedImage) {
    return await world.containerd.run(image.reference, ['cat', '/name'], { namespace: 'k8s.io' });
  }
});
