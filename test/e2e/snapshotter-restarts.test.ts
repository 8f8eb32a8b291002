// What goes on, and what comes back, when a daemon ends: containerd or peel.
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { PushedImage } from '../support/container-image.ts';
import { sha256 } from '../support/image-lab.ts';
import { canMount } from '../support/peel-node.ts';
import { SnapshotterWorld } from '../support/snapshotter-world.ts';

describe.skipIf(!canMount)('with a container', () => {
  let world: SnapshotterWorld;
  let image: PushedImage;
  // Also the libraries of programs that run only while the daemon is stopped.
  const unread = randomBytes(2 << 20);
  const everything = ['sh', '-c', 'ls -lR /usr /data && cat /data/file && sha256sum /usr/bin/* /usr/lib/*/*.so*'];

  beforeAll(async () => {
    world = await SnapshotterWorld.start();
    const members = [
      { name: 'data/file', data: 'content\n' },
      { name: 'unread', data: unread },
    ];
    image = await world.image('app', [members]);
    await world.pull(image.reference);
  });
  beforeEach(() => world.explainFailure());
  afterAll(async () => expect(await world.close()).toEqual([]));

  it('that runs while containerd is restarted, commands can be run in it', async () => {
    const { containerd } = world;
    const container = await containerd.container(image.reference, ['sleep', '600']);
    const before = await container.exec(...everything);
    expect(before).toMatchObject({ code: 0, err: '' });
    await containerd.stop();
    await containerd.start();
    expect((await container.exec(...everything)).out).toBe(before.out);
    expect((await container.exec('sh', '-c', 'echo written > /data/new && cat /data/new')).out).toBe('written\n');
    await container.remove();
  });

  it('that runs while the daemon is stopped, everything cached can be read, listed and executed', async () => {
    const { containerd, daemon } = world;
    const container = await containerd.container(image.reference, ['sleep', '600']);
    const before = await container.exec(...everything);
    daemon.pause();
    let answered = false;
    const waiting = container.exec('sha256sum', '/unread').finally(() => (answered = true));
    try {
      const meanwhile = await container.exec(...everything);
      expect({ code: meanwhile.code, out: meanwhile.out }).toEqual({ code: 0, out: before.out });
      expect((await container.exec('stat', '-c', '%s', '/unread')).out).toBe(`${2 << 20}\n`);
      expect((await container.exec('sh', '-c', 'mkdir /made && mv /data/file /made && cat /made/file')).out).toBe(
        'content\n',
      );
      // What nobody has read yet waits for the daemon.
      expect(answered).toBe(false);
    } finally {
      daemon.resume();
    }
    expect((await waiting).out).toMatch(new RegExp(`^${sha256(unread).slice('sha256:'.length)} `));
    await container.remove();
  });

  it.each(['SIGTERM', 'SIGKILL'] as const)(
    'that starts after the daemon got %s, no registry is asked',
    async (signal) => {
      const { containerd, daemon, registry } = world;
      const warm = await containerd.run(image.reference, everything);
      const [layers, snapshots] = [(await daemon.status()).layers, await containerd.snapshots()];
      expect(await daemon.stop(signal)).toBe(signal === 'SIGTERM' ? 0 : signal);
      const open = registry.front.interfere(
        () => true,
        (request) => request.socket.destroy(),
      );
      registry.front.forget();
      await daemon.start();
      await world.reconnected();
      expect(await containerd.snapshots()).toEqual(snapshots);
      expect((await daemon.status()).layers.map(({ slot, layer }) => ({ slot, layer }))).toEqual(
        layers.map(({ slot, layer }) => ({ slot, layer })),
      );
      const { code, out } = await containerd.run(image.reference, everything);
      expect({ code, out }).toEqual({ code: 0, out: warm.out });
      expect(registry.front.requests).toEqual([]);
      open();
    },
  );
});
