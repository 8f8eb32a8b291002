// `peel pull` into Debian's containerd, with the snapshotter `native`, which leaves every layer to be unpacked.
import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { promisify } from 'node:util';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Descriptor } from '../../src/oci/descriptor.ts';
import { mediaTypes } from '../../src/oci/media-type.ts';
import { chainIds } from '../../src/oci/chain-id.ts';
import { listenUnix } from '../../src/util/listen-unix.ts';
import { Containerd } from '../support/containerd.ts';
import { collectGarbage, namespaceState, withSnapshotMounted } from '../support/containerd-state.ts';
import { makeFixture } from '../support/fixtures.ts';
import { buildImage, nodeArchitecture, pushImage } from '../support/image-builder.ts';
import type { BuiltImage } from '../support/image-builder.ts';
import { PeelNode, canMount } from '../support/peel-node.ts';
import { run, runOk } from '../support/run.ts';
import type { RunOptions, RunResult } from '../support/run.ts';
import { tarOf } from '../support/tar-members.ts';
import { TestRegistry, layersOf } from '../support/test-registry.ts';

interface Pulled {
  readonly name: string;
  readonly target: string;
  readonly manifest: string;
  readonly layers: readonly {
    readonly digest: string;
    readonly size: number;
    readonly how: string;
    readonly fetched: number;
  }[];
}

describe.skipIf(!canMount)('peel pull', () => {
  let registry: TestRegistry;
  let containerd: Containerd;
  let node: PeelNode;
  let image: BuiltImage;
  let proxy: string;
  let namespaces = 0;
  let namespace = '';

  beforeAll(async () => {
    registry = await TestRegistry.start();
    node = new PeelNode();
    proxy = path.join(node.dir, 'snapshotter.sock');
    containerd = await Containerd.start({ proxy: { name: 'peel', socket: proxy, root: node.root } });
    image = await registry.push('app', layersOf(await layerTars(registry), 'gzip', 'zstd', 'none', 'gzip'));
  });
  afterAll(async () => {
    await node.close();
    expect(await containerd.close()).toEqual([]);
    await registry.close();
  });
  // Content is shared between namespaces, so what a test fetches is all removed before the next one.
  beforeEach(() => {
    namespace = `ns${namespaces++}`;
    registry.front.forget();
  });
  afterEach(async () => {
    const { images, leases } = await state();
    for (const name of Object.keys(images)) await ctr('images', 'rm', '--sync', name);
    for (const id of Object.keys(leases)) await ctr('leases', 'rm', '--sync', id);
    await collectGarbage(containerd, namespace);
    expect(await state()).toEqual({ content: {}, images: {}, leases: {}, writes: {}, snapshots: {} });
  });

  const state = () => namespaceState(containerd, namespace, 'native');
  const ctr = (...args: readonly string[]) => containerd.ctrIn(namespace, ...args);
  const pull = (args: readonly string[], options: RunOptions = {}): Promise<RunResult> =>
    node.peel(['pull', '--snapshotter', 'native', ...args], {
      ...options,
      env: { CONTAINERD_ADDRESS: containerd.socket, CONTAINERD_NAMESPACE: namespace, ...options.env },
    });
  const pulled = async (...args: readonly string[]): Promise<Pulled> => {
    const { code, out, err } = await pull([...args, '--json']);
    expect({ code, err }).toEqual({ code: 0, err: '' });
    return JSON.parse(out) as Pulled;
  };

  it('leaves an image that containerd can use and collects with the image', async () => {
    const reference = registry.reference('app');
    const { name, target, layers } = await pulled(reference);
    expect({ name, target }).toEqual({ name: reference, target: image.manifest.descriptor.digest });
    // The layer that is there twice is fetched once.
    const sizes = image.layers.map(({ descriptor }) => descriptor.size);
    expect(layers.map(({ how, fetched }) => ({ how, fetched }))).toEqual(
      [...sizes.slice(0, 3), sizes[3], 0].map((fetched, i) => ({ how: 'unpacked', fetched: i === 4 ? 0 : fetched })),
    );
    await collectGarbage(containerd, namespace);
    await expectComplete(reference);
    await expectFiles(reference);
    expect((await state()).leases).toEqual({});
    await ctr('images', 'rm', '--sync', reference);
    expect(await state()).toEqual({ content: {}, images: {}, leases: {}, writes: {}, snapshots: {} });
  });

  it('fetches nothing the second time, and asks with one HEAD', async () => {
    const reference = registry.reference('app');
    await pulled(reference);
    const before = await state();
    registry.front.forget();
    const { layers } = await pulled(reference);
    expect(layers.map(({ how, fetched }) => ({ how, fetched }))).toEqual(
      layers.map(() => ({ how: 'present', fetched: 0 })),
    );
    expect(registry.front.requests.map(({ method, path: asked }) => `${method} ${asked}`)).toEqual([
      'HEAD /v2/app/manifests/latest',
    ]);
    expect(await state()).toEqual(before);
  });

  it('moves the name to what the tag is now, and keeps the labels of the image', async () => {
    const reference = registry.reference('moving');
    await pushImage(registry.store, 'moving', 'latest', image);
    await pulled(reference);
    await ctr('images', 'label', reference, 'io.cri-containerd.image=managed');
    const tars = await makeFixture('bulk', registry.work('moved'), '1', 'moved');
    const moved = await registry.push('moving', layersOf(tars, 'gzip'));
    expect((await pulled(reference)).target).toBe(moved.manifest.descriptor.digest);
    await collectGarbage(containerd, namespace);
    const { images, snapshots } = await state();
    expect(images[reference]).toMatchObject({
      digest: moved.manifest.descriptor.digest,
      labels: { 'io.cri-containerd.image': 'managed' },
    });
    expect(Object.keys(snapshots)).toEqual([moved.layers[0]?.diffId]);
  });

  it.each(['oci', 'docker'] as const)('writes the same as ctr, from an index of %s media types', async (types) => {
    const name = `index-${types}`;
    const reference = await pushIndex(registry, name, types);
    await ctr('images', 'pull', '--plain-http', '--snapshotter', 'native', '--platform', host(), reference);
    const theirs = await state();
    await ctr('images', 'rm', '--sync', reference);
    const { layers, target } = await pulled(reference);
    const ours = await state();
    expect(layers.map(({ how }) => how)).toEqual(['unpacked', 'unpacked']);
    expect(ours.content).toEqual(theirs.content);
    expect(ours.images).toEqual(theirs.images);
    expect(ours.images[reference]).toMatchObject({ digest: target });
    const shape = ({ snapshots }: typeof ours) =>
      Object.entries(snapshots).map(([key, { parent, committed }]) => [key, parent, committed]);
    expect(shape(ours)).toEqual(shape(theirs));
    await expectComplete(reference);
  });

  it('takes content that another namespace has without the network', async () => {
    const reference = registry.reference('app');
    await ctr('images', 'pull', '--plain-http', '--snapshotter', 'native', reference);
    const first = namespace;
    registry.front.forget();
    namespace = `ns${namespaces++}`;
    const { layers } = await pulled(reference);
    expect(layers.map(({ fetched }) => fetched)).toEqual(layers.map(() => 0));
    const config = image.config.descriptor.digest;
    expect(registry.front.seen('/blobs/').map(({ path: asked }) => asked)).toEqual([`/v2/app/blobs/${config}`]);
    await expectComplete(reference);
    await containerd.ctrIn(first, 'images', 'rm', '--sync', reference);
    await expectFiles(reference);
  });

  it('leaves no lease and no snapshot after an interrupt', async () => {
    const stuck = stuckBlob(registry, image.layers[0]?.descriptor, 1 << 20);
    const interrupted = pull([registry.reference('app')], {
      onStart: (child) => void stuck.reached.then(() => child.kill('SIGINT')),
    });
    expect(await interrupted).toMatchObject({ code: 130, out: '' });
    stuck.release();
    const { leases, images, snapshots } = await state();
    expect({ leases, images, snapshots }).toEqual({ leases: {}, images: {}, snapshots: {} });
    await collectGarbage(containerd, namespace);
    expect((await state()).content).toEqual({});
  });

  it('continues a layer where a killed pull left it', async () => {
    const layer = image.layers[0]?.descriptor as Descriptor;
    const stuck = stuckBlob(registry, layer, 3 << 19);
    const killed = pull([registry.reference('app')], {
      onStart: (child) =>
        void stuck.reached.then(async () => {
          await written(`layer-${layer.digest}`, 1 << 20);
          child.kill('SIGKILL');
        }),
    });
    expect((await killed).signal).toBe('SIGKILL');
    stuck.release();
    const begun = (await state()).writes[`layer-${layer.digest}`] ?? 0;
    registry.front.forget();
    const { layers } = await pulled(registry.reference('app'));
    expect(layers[0]?.fetched).toBe(layer.size - begun);
    expect(registry.front.bytes(layer.digest)).toBe(layer.size - begun);
    await expectFiles(registry.reference('app'));
    // Only the lease of the killed one is left, for a day, with its snapshot.
    const { leases, snapshots } = await state();
    expect(Object.values(leases)).toEqual([{ 'containerd.io/gc.expire': expect.stringMatching(/^\d{4}-.*T.*Z$/) }]);
    expect(Object.values(snapshots).filter(({ committed }) => !committed)).toHaveLength(1);
  });

  it('throws away what was begun and is not the layer', async () => {
    const layer = image.layers[0]?.descriptor as Descriptor;
    // As long as half of the layer, and something else.
    const begun = run(
      'ctr',
      [
        '-a',
        containerd.socket,
        '-n',
        namespace,
        'content',
        'ingest',
        '--expected-size',
        `${layer.size}`,
        `layer-${layer.digest}`,
      ],
      {
        input: Buffer.alloc(1 << 20, 7),
      },
    );
    expect((await begun).code).not.toBe(0);
    expect((await state()).writes).toEqual({ [`layer-${layer.digest}`]: 1 << 20 });
    expect((await pulled(registry.reference('app'))).layers[0]).toMatchObject({ how: 'unpacked', fetched: layer.size });
    await expectComplete(registry.reference('app'));
  });

  it('lets two pulls of one image share the work', async () => {
    const reference = registry.reference('app');
    const [a, b] = await Promise.all([pulled(reference), pulled(reference)]);
    expect([a.target, b.target]).toEqual([image.manifest.descriptor.digest, image.manifest.descriptor.digest]);
    for (const { descriptor } of image.layers) expect(registry.front.bytes(descriptor.digest)).toBe(descriptor.size);
    await expectComplete(reference);
    const { leases, snapshots } = await state();
    expect(leases).toEqual({});
    expect(Object.values(snapshots).every(({ committed }) => committed)).toBe(true);
  });

  it('refuses a layer that is not what the config says', async () => {
    const [first, second] = image.layers;
    if (first === undefined || second === undefined) throw new Error('no layers');
    const { describeImage } = await import('../support/image-builder.ts');
    const wrong = describeImage([first, { ...second, diffId: first.diffId }]);
    await pushImage(registry.store, 'wrong', 'latest', wrong);
    const { code, err } = await pull([registry.reference('wrong')]);
    expect(code).toBe(1);
    expect(err).toContain(`layer ${second.descriptor.digest} unpacks to ${second.diffId}`);
    const { leases, images, snapshots } = await state();
    expect({ leases, images }).toEqual({ leases: {}, images: {} });
    // The layer below is good, but nothing keeps it.
    expect(Object.keys(snapshots).filter((key) => key !== first.diffId)).toEqual([]);
  });

  it('prints a table and a summary', async () => {
    const { code, out } = await pull([registry.byDigest('app', image)]);
    expect(code).toBe(0);
    const lines = out.trimEnd().split('\n');
    expect(lines[0]).toMatch(/^LAYER +HOW +SIZE +FETCHED$/);
    expect(lines[1]).toMatch(
      new RegExp(`^${image.layers[0]?.descriptor.digest.slice(0, 19)} +unpacked +\\d.* MiB +\\d.* MiB$`),
    );
    expect(lines.at(-1)).toMatch(/@sha256:[0-9a-f]{64}: sha256:[0-9a-f]{64}; 5 unpacked, .* fetched$/);
  });

  it('hands the user of --user to the daemon, or says that there is none', async () => {
    const reference = registry.reference('app');
    const args = [reference, '--snapshotter', 'peel', '--user', 'ann:secret'];
    // Has no service, so that no pull gets further.
    const snapshotter = new Server();
    await promisify(snapshotter.bindAsync.bind(snapshotter))(`unix:${proxy}`, ServerCredentials.createInsecure());
    const alone = await pull(args);
    expect(alone.err).toMatch(/^peel: the daemon at .*control\.sock did not get the user .* \(it is not running\)/);
    const seen: string[] = [];
    const daemon = createServer((request, response) => {
      void text(request).then((body) => {
        if (request.url === '/v1/version') return response.end('{"version":"1","pid":1,"root":"/"}');
        seen.push(`${request.method} ${request.url} ${body}`);
        const answer = seen.length === 1 ? {} : { error: { code: 'ERR_NO', message: 'no: ann:secret' } };
        return response.writeHead(seen.length === 1 ? 200 : 403).end(JSON.stringify(answer));
      });
    });
    await listenUnix(daemon, { path: path.join(node.env['PEEL_RUN_DIR'] ?? '', 'control.sock') });
    try {
      const taken = await pull(args);
      expect(seen).toEqual([
        `POST /v1/credentials ${JSON.stringify({ image: reference, username: 'ann', password: 'secret' })}`,
      ]);
      expect(taken.err).toMatch(/^peel: containerd at .* could not prepare/);
      const refused = await pull(args);
      expect(refused.err).toMatch(/^peel: the daemon .*\(it answered ERR_NO\)/);
      expect(refused.err).not.toContain('secret');
      // What the registry does not take would replace what the daemon reads with.
      expect((await pull([registry.reference('none'), ...args.slice(1)])).err).toMatch(/^peel: no such image/);
      expect(seen).toHaveLength(2);
    } finally {
      snapshotter.forceShutdown();
      daemon.closeAllConnections();
      await new Promise((resolve) => daemon.close(resolve));
    }
  });

  it('says that there is no containerd', async () => {
    const { code, out, err } = await pull([registry.reference('app'), '--address', `${containerd.dir}/nothing`]);
    expect({ code, out }).toEqual({ code: 1, out: '' });
    expect(err).toMatch(/^peel: no containerd answers at .*nothing \(ENOENT\): is it running/);
  });

  async function expectComplete(reference: string): Promise<void> {
    const text = await ctr('images', 'check', '--snapshotter', 'native', `name==${reference}`);
    expect(text).toMatch(/ complete \(\d+\/\d+\) .* true\s*$/);
  }

  /** What a container would see. */
  async function expectFiles(reference: string): Promise<void> {
    const dir = await node.newDir();
    const { images } = await state();
    expect(Object.keys(images)).toContain(reference);
    const top = chainIds(image.layers.map(({ diffId }) => diffId)).at(-1) ?? '';
    await withSnapshotMounted(containerd, { namespace, snapshotter: 'native', name: top, dir }, async () => {
      const list = await runOk('sh', ['-c', `cd ${dir} && find . -type f | sort && cat etc/motd && readlink etc/link`]);
      expect(list.trim().split('\n')).toEqual([
        './bulk/0000',
        './bulk/0002',
        './bulk/0003',
        './etc/motd',
        './etc/other',
        'from above',
        'motd',
      ]);
      const tar = path.join(registry.work('bulk'), '00-bulk.tar');
      await runOk('sh', ['-c', `tar -xOf ${tar} bulk/0002 | cmp - ${dir}/bulk/0002`]);
    });
  }

  async function written(ref: string, bytes: number): Promise<void> {
    for (;;) {
      if (((await state()).writes[ref] ?? 0) >= bytes) return;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
});

/** Five layers: files, more of them, changes to both, and the second again, twice. */
async function layerTars(registry: TestRegistry): Promise<string[]> {
  const [bulk = ''] = await makeFixture('bulk', registry.work('bulk'), '4');
  const dir = registry.work('small');
  mkdirSync(dir, { recursive: true });
  const write = (name: string, tar: Buffer): string => {
    writeFileSync(path.join(dir, name), tar);
    return path.join(dir, name);
  };
  const etc = { path: 'etc/', type: 'dir' } as const;
  const config = write(
    'etc.tar',
    tarOf(etc, { path: 'etc/motd', data: 'hello\n' }, { path: 'etc/link', type: 'symlink', link: 'motd' }),
  );
  const above = write(
    'above.tar',
    tarOf(
      { path: 'bulk/', type: 'dir' },
      { path: 'bulk/.wh.0001' },
      etc,
      { path: 'etc/motd', data: 'from above\n' },
      { path: 'etc/other', type: 'hardlink', link: 'etc/motd' },
    ),
  );
  return [bulk, config, config, above, above];
}

function host(): string {
  return `linux/${nodeArchitecture()}`;
}

/** Of this machine's platform, another one, and an attestation. Returns the reference. */
async function pushIndex(registry: TestRegistry, name: string, types: 'oci' | 'docker'): Promise<string> {
  const platforms = [
    { os: 'linux', architecture: nodeArchitecture() === 'arm64' ? 'amd64' : 'arm64' },
    { os: 'linux', architecture: nodeArchitecture() },
    { os: 'unknown', architecture: 'unknown' },
  ];
  const manifests: object[] = [];
  for (const platform of platforms) {
    const seed = `${name} ${platform.architecture}`;
    const dir = registry.work(seed);
    mkdirSync(dir, { recursive: true });
    const tars = [1, 2].map((number) => {
      const file = path.join(dir, `${number}.tar`);
      writeFileSync(file, tarOf({ path: `file-${number}`, data: seed }));
      return file;
    });
    const image = await buildImage(dir, layersOf(tars, 'gzip'), { platform, mediaTypes: types });
    await pushImage(registry.store, name, undefined, image);
    manifests.push({ ...image.manifest.descriptor, platform });
  }
  const mediaType = types === 'oci' ? mediaTypes.imageIndex : mediaTypes.dockerManifestList;
  const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, manifests }));
  await registry.store.pushManifest(name, 'latest', bytes, mediaType);
  return registry.reference(name);
}

/** The registry sends the first bytes of a blob and then nothing, until it is released. */
function stuckBlob({ front }: TestRegistry, layer: Descriptor | undefined, bytes: number) {
  let onReached = () => {};
  const reached = new Promise<void>((resolve) => (onReached = resolve));
  const release = front.interfere(
    ({ method, url }) => method === 'GET' && layer !== undefined && url?.includes(layer.digest) === true,
    (_request, response, _forward, ask) =>
      void ask().then(({ status, headers, body }) => {
        response.writeHead(status, headers).write(body.subarray(0, bytes), onReached);
      }),
  );
  return { reached, release };
}
