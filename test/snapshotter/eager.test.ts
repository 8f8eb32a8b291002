// Images whose layers are unpacked: side by side, ahead of containerd, and only for who wants them.
import { randomBytes } from 'node:crypto';
import { readFileSync, readdirSync } from 'node:fs';
import { status } from '@grpc/grpc-js';
import { describe, expect, it, vi } from 'vitest';
import { Deferred } from '../../src/util/deferred.ts';
import { ImageLab, labLayer, sha256 } from '../support/image-lab.ts';
import type { LabImage } from '../support/image-lab.ts';
import { wishesOf } from '../support/layers-process.ts';
import { canMount } from '../support/peel-node.ts';
import { SnapshotsClient } from '../support/snapshots-client.ts';
import { tarOf } from '../support/tar-members.ts';
import { unpackingWorld } from '../support/unpacking-world.ts';
import type { UnpackingWorld } from '../support/unpacking-world.ts';

const layer = (name: string) =>
  labLayer(tarOf({ path: './', type: 'dir' }, { path: name, data: randomBytes(2000) }), 'gzip');

async function image(lab: ImageLab, count = 4): Promise<LabImage> {
  return await lab.push(
    '1',
    Array.from({ length: count }, (_, i) => layer(`file-${i}`)),
  );
}

/** What containerd is answered for each layer: the snapshot, or why it has to unpack it. */
async function pull({ client, snapshotter }: UnpackingWorld, pulled: LabImage, tag = ''): Promise<string[]> {
  let parent = '';
  const answers: string[] = [];
  for (const { chainId, labels } of wishesOf(pulled)) {
    const key = `extract ${tag} ${chainId}`;
    const answer = await client.prepare(key, parent, { ...labels }).then(
      () => undefined,
      (error: unknown) => error as { code: status },
    );
    if (answer !== undefined) {
      if (answer.code !== status.ALREADY_EXISTS) throw answer;
      const [info] = await client.list(
        `labels."containerd.io/snapshot.ref"==${chainId},parent==${JSON.stringify(parent)}`,
      );
      parent = info?.name ?? '';
      answers.push('unpacked');
    } else {
      answers.push(snapshotter.status().left.find((each) => each.key === key)?.reason ?? '');
      parent = `${chainId} ${tag}`;
      await client.commit(parent, key, { ...labels });
    }
  }
  return answers;
}

const own = ({ root, snapshotter }: UnpackingWorld) =>
  snapshotter.list([]).map(({ id }) => readdirSync(`${root}/s/${id.toString(36)}/fs`));

describe.skipIf(!canMount)('in mode eager', () => {
  it('every layer is unpacked, all of them side by side, and nobody looks for an index', async () => {
    const lab = await ImageLab.start();
    const pulled = await image(lab);
    const world = await unpackingWorld(lab);
    const all = new Deferred<void>();
    world.unpacker.hold = async () => {
      if (world.unpacker.requests.length === 4) all.resolve();
      await all.promise;
    };
    expect(await pull(world, pulled)).toEqual(Array(4).fill('unpacked'));
    expect(own(world)).toEqual([['file-0'], ['file-1'], ['file-2'], ['file-3']]);
    expect(lab.front.seen('/referrers/')).toEqual([]);
    for (const { descriptor } of pulled.layers) expect(lab.front.seen(descriptor.digest)).toHaveLength(1);
    expect(world.unpacker.requests.map(({ form }) => form)).toEqual(['plain', 'overlay', 'overlay', 'overlay']);
    expect(world.unpacker.requests.every(({ image: reference }) => reference === pulled.reference)).toBe(true);
    const [line] = world.snapshotter.status().unpacked;
    expect(line).toMatchObject({ image: pulled.reference, layer: pulled.layers[0]?.descriptor.digest });
    expect(line?.reason).toMatch(/no index is looked for/);
    expect(world.unpacker.left()).toEqual([]);
  });

  it('what another image has already is not unpacked again', async () => {
    const lab = await ImageLab.start();
    const base = [layer('a'), layer('b')];
    const [one, two] = [await lab.push('1', [...base, layer('c')]), await lab.push('2', [...base, layer('d')])];
    const world = await unpackingWorld(lab);
    await pull(world, one);
    world.unpacker.requests.length = 0;
    await pull(world, two);
    expect(world.unpacker.requests.map(({ descriptor }) => descriptor.digest)).toEqual([
      two.layers[2]?.descriptor.digest,
    ]);
    expect(world.snapshotter.list([])).toHaveLength(4);
  });

  it('what another image gets meanwhile is not unpacked again, whoever is first', async () => {
    const lab = await ImageLab.start();
    const base = [layer('a'), layer('b'), layer('c')];
    const [one, two] = [await lab.push('1', [...base, layer('d')]), await lab.push('2', [...base, layer('e')])];
    const world = await unpackingWorld(lab);
    // The second one is asked for before the first has any layer, and learns what it is when that has all of them.
    const held: (() => void)[] = [];
    const stop = lab.front.interfere(
      ({ url = '' }) => url.includes(two.digest),
      (_request, _response, forward) => void held.push(() => forward()),
    );
    const second = pull(world, two);
    await vi.waitFor(() => expect(held.length).toBeGreaterThan(0), { timeout: 10_000 });
    await pull(world, one);
    stop();
    for (const answer of held) answer();
    expect(await second).toEqual(Array(4).fill('unpacked'));
    for (const { descriptor } of [...base, ...two.layers.slice(3)])
      expect(world.unpacker.requests.filter(({ descriptor: { digest } }) => digest === descriptor.digest)).toHaveLength(
        1,
      );
    expect(world.snapshotter.status().outcomes).toMatchObject({ unpacked: 5, found: 3 });
    await vi.waitFor(() => expect(world.unpacker.left()).toEqual([]));
  });

  it('an image may have a layer twice', async () => {
    const lab = await ImageLab.start();
    const twice = layer('twice');
    const world = await unpackingWorld(lab);
    const pulled = await lab.push('1', [layer('a'), twice, layer('b'), twice]);
    expect(await pull(world, pulled)).toEqual(Array(4).fill('unpacked'));
    expect(own(world)).toEqual([['a'], ['twice'], ['b'], ['twice']]);
  });

  it('the namespace says which blobs of containerd there are', async () => {
    const lab = await ImageLab.start();
    const pulled = await image(lab, 2);
    const asked: string[] = [];
    const world = await unpackingWorld(lab, {
      localBlobs: (name) => (asked.push(name), { name, find: async () => undefined }),
    });
    const client = new SnapshotsClient(world.socket, { namespace: 'k8s.io', snapshotter: 'peel' });
    await pull({ ...world, client }, pulled);
    client.close();
    expect(asked).toEqual(['k8s.io', 'k8s.io']);
    expect(world.unpacker.requests.map(({ local }) => local?.name)).toEqual(['k8s.io', 'k8s.io']);
  });

  it('no time is counted while a layer is unpacked, whoever else joins', async () => {
    const lab = await ImageLab.start();
    const pulled = await image(lab, 1);
    const world = await unpackingWorld(lab, { prepareTimeoutMs: 400 });
    const free = new Deferred<void>();
    world.unpacker.hold = () => free.promise;
    const pulling = [pull(world, pulled, 'a'), pull(world, pulled, 'b')];
    setTimeout(() => free.resolve(), 900);
    expect(await Promise.all(pulling)).toEqual([['unpacked'], ['unpacked']]);
    expect(world.snapshotter.status().outcomes).toMatchObject({ unpacked: 1, found: 1, timeout: 0 });
  });

  it('a caller that goes away ends what nobody else waits for', async () => {
    const lab = await ImageLab.start();
    const pulled = await image(lab);
    const world = await unpackingWorld(lab);
    const signals: AbortSignal[] = [];
    world.unpacker.hold = (_, signal) =>
      new Promise((_resolve, reject) => {
        signals.push(signal);
        signal.addEventListener('abort', () => reject(signal.reason as Error));
      });
    const [wish] = wishesOf(pulled);
    let cancel = () => {};
    const call = world.client.prepare('key', '', { ...wish?.labels }, (made) => (cancel = () => made.cancel()));
    await vi.waitFor(() => expect(signals).toHaveLength(4));
    cancel();
    await expect(call).rejects.toMatchObject({ code: status.CANCELLED });
    await vi.waitFor(() => expect(signals.every(({ aborted }) => aborted)).toBe(true));
    world.unpacker.hold = async () => {};
    expect(await pull(world, pulled)).toEqual(Array(4).fill('unpacked'));
  });

  it('an image that nobody asks for any more ends, and one that is waited for does not', async () => {
    const lab = await ImageLab.start();
    const pulled = await image(lab, 3);
    const world = await unpackingWorld(lab, { sessionMs: 600 });
    const [slow, last] = [pulled.layers[1], pulled.layers[2]].map((each) => each?.descriptor.digest);
    const signals = new Map<string, AbortSignal>();
    const free = new Deferred<void>();
    world.unpacker.hold = async ({ descriptor: { digest } }, signal) => {
      signals.set(digest, signal);
      if (digest === slow) await free.promise;
      if (digest === last) await new Promise((resolve) => signal.addEventListener('abort', resolve));
    };
    const [first, second] = wishesOf(pulled);
    await world.client.prepare('1', '', { ...first?.labels }).catch(() => {});
    setTimeout(() => free.resolve(), 1500);
    const asked = await world.client
      .prepare('2', first?.chainId, { ...second?.labels })
      .catch((error: unknown) => error);
    expect(asked).toMatchObject({ code: status.ALREADY_EXISTS });
    expect(signals.get(last ?? '')?.aborted).toBe(false);
    await vi.waitFor(() => expect(signals.get(last ?? '')?.aborted).toBe(true), { timeout: 10_000 });
  });

  it('what cannot be unpacked is left to containerd with the reason, and the others are not', async () => {
    const lab = await ImageLab.start();
    const linked = labLayer(tarOf({ path: './', type: 'dir' }, { path: 'again', type: 'hardlink', link: 'file-0' }));
    const liar = { ...layer('liar'), diffId: sha256(Buffer.from('another')) };
    const gone = layer('gone');
    const pulled = await lab.push('1', [layer('file-0'), linked, liar, gone, layer('last')]);
    lab.front.interfere(
      ({ url = '' }) => url.includes(gone.descriptor.digest),
      (_, response) => void response.writeHead(404).end(),
    );
    const world = await unpackingWorld(lab);
    const answers = await pull(world, pulled);
    expect(answers).toMatchObject([
      'unpacked',
      expect.stringMatching(/hard link/),
      expect.stringMatching(/has the diffID/),
      expect.stringMatching(/404|unknown|not/i),
      'unpacked',
    ]);
    expect(world.snapshotter.status().outcomes).toMatchObject({ unpacked: 2, layer: 1, error: 1, registry: 1 });
  });
});

describe.skipIf(!canMount)('in mode lazy-else-eager', () => {
  it('an image without an index is unpacked, and every layer says why', async () => {
    const lab = await ImageLab.start();
    const pulled = await image(lab, 2);
    const world = await unpackingWorld(lab, { mode: 'lazy-else-eager' });
    expect(await pull(world, pulled)).toEqual(['unpacked', 'unpacked']);
    expect(lab.front.seen('/referrers/')).toHaveLength(1);
    for (const { reason } of world.snapshotter.status().unpacked) expect(reason).toMatch(/has none for this image/);
  });

  it('no index is looked for where every format is switched off', async () => {
    const lab = await ImageLab.start();
    const pulled = await image(lab, 2);
    const world = await unpackingWorld(lab, {
      mode: 'lazy-else-eager',
      formats: { peel: false, soci_v1: false, soci_v2: false },
    });
    expect(await pull(world, pulled)).toEqual(['unpacked', 'unpacked']);
    expect(lab.front.seen('/referrers/')).toEqual([]);
  });

  it('a registry that fails is no reason to unpack', async () => {
    const lab = await ImageLab.start();
    const pulled = await image(lab, 1);
    const world = await unpackingWorld(lab, { mode: 'lazy-else-eager' });
    lab.front.interfere(
      ({ url = '' }) => !url.startsWith('/v2/?'),
      (_, response) => void response.writeHead(403).end(),
    );
    expect(await pull(world, pulled)).toMatchObject([expect.stringMatching(/denied/)]);
    expect(world.unpacker.requests).toEqual([]);
  });

  it.each(['lazy', 'defer'] as const)('mode %s unpacks nothing', async (mode) => {
    const lab = await ImageLab.start();
    const pulled = await image(lab, 1);
    const world = await unpackingWorld(lab, { mode });
    expect(await pull(world, pulled)).not.toEqual(['unpacked']);
    expect(world.unpacker.requests).toEqual([]);
  });
});

describe.skipIf(!canMount)('files of a layer', () => {
  it('are those of the image', async () => {
    const lab = await ImageLab.start();
    const data = randomBytes(100_000);
    const pulled = await lab.push('1', [labLayer(tarOf({ path: 'dir/file', data }), 'gzip')]);
    const world = await unpackingWorld(lab);
    await pull(world, pulled);
    const [row] = world.snapshotter.list([]);
    expect(readFileSync(`${world.root}/s/${row?.id.toString(36)}/fs/dir/file`).equals(data)).toBe(true);
  });
});
