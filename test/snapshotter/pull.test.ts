// Pulling into a containerd whose snapshotter makes some layers by itself.
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Origins } from '../../src/daemon/origins.ts';
import { readEnvironment } from '../../src/config/environment.ts';
import { createLog } from '../../src/observe/log.ts';
import { parseReference } from '../../src/oci/reference.ts';
import { mediaTypes } from '../../src/oci/media-type.ts';
import type { RegistryReference } from '../../src/oci/reference.ts';
import { chainIds } from '../../src/oci/chain-id.ts';
import { pullToContainerd } from '../../src/snapshotter/pull/pull-to-containerd.ts';
import type { PullOptions } from '../../src/snapshotter/pull/pull-to-containerd.ts';
import { Containerd } from '../support/containerd.ts';
import { collectGarbage, namespaceState } from '../support/containerd-state.ts';
import { describeImage, pushImage } from '../support/image-builder.ts';
import type { BuiltImage } from '../support/image-builder.ts';
import { canMount } from '../support/peel-node.ts';
import { RemoteSnapshotter } from '../support/remote-snapshotter.ts';
import type { Decision } from '../support/remote-snapshotter.ts';
import { tarOf } from '../support/tar-members.ts';
import { TestRegistry, layersOf } from '../support/test-registry.ts';
import { keptTempDir } from '../support/tmp.ts';

const layerCount = 5;
const label = (name: string) => `containerd.io/snapshot/${name}`;

describe.skipIf(!canMount)('pullToContainerd with a remote snapshotter', () => {
  const work = keptTempDir('peel-remote-');
  const namespace = 'remote';
  let registry: TestRegistry;
  let snapshotter: RemoteSnapshotter;
  let containerd: Containerd;
  let origins: Origins;
  let image: BuiltImage;
  let chain: readonly string[];

  beforeAll(async () => {
    registry = await TestRegistry.start();
    snapshotter = await RemoteSnapshotter.start(work.path);
    containerd = await Containerd.start({ proxy: snapshotter.proxy });
    origins = new Origins({ environment: readEnvironment({}), log: createLog({ level: 'silent' }) });
    image = await registry.push('app', layersOf(smallTars(registry, layerCount), 'gzip'));
    chain = chainIds(image.layers.map(({ diffId }) => diffId));
  });
  afterAll(async () => {
    await origins.close();
    expect(await containerd.close()).toEqual([]);
    await snapshotter.close();
    await registry.close();
    work[Symbol.dispose]();
  });
  beforeEach(() => {
    registry.front.forget();
    snapshotter.prepared.length = 0;
    snapshotter.decide = () => 'lazy';
  });
  afterEach(async () => {
    for (const name of Object.keys((await state()).images))
      await containerd.ctrIn(namespace, 'images', 'rm', '--sync', name);
    await collectGarbage(containerd, namespace);
    expect(await state()).toEqual({ content: {}, images: {}, leases: {}, writes: {}, snapshots: {} });
    expect(snapshotter.names).toEqual([]);
  });

  const state = () => namespaceState(containerd, namespace, 'peel');
  const pull = (reference: string, options: Partial<PullOptions> = {}) =>
    pullToContainerd(
      { openOrigin: origins.open, address: containerd.socket },
      { reference: parseReference(reference) as RegistryReference, namespace, snapshotter: 'peel', ...options },
    );
  const isPulled = (reference: string) =>
    pull(reference).then(
      () => true,
      () => false,
    );
  const digests = () => image.layers.map(({ descriptor }) => descriptor.digest);
  const positionOf = (chainId: string | undefined) => chain.indexOf(chainId ?? '');
  /** One decision per layer. */
  const decide = (...decisions: readonly Decision[]) => {
    snapshotter.decide = ({ labels }) => decisions[positionOf(labels['containerd.io/snapshot.ref'])] ?? 'lazy';
  };
  const blobRequests = () => registry.front.seen('/blobs/').map(({ path: asked }) => asked.split('/').at(-1));

  it('fetches no layer that the snapshotter makes, and tells it all it needs', async () => {
    const index = `sha256:${'5'.repeat(64)}`;
    const reference = registry.reference('app');
    const { layers, target } = await pull(reference, { indexDigest: index as PullOptions['indexDigest'] });
    expect(target).toBe(image.manifest.descriptor.digest);
    expect(layers).toEqual(
      image.layers.map(({ descriptor: { digest, size } }) => ({ digest, size, how: 'lazy', fetched: 0 })),
    );
    expect(blobRequests()).toEqual([image.config.descriptor.digest]);
    expect(snapshotter.prepared.map(({ labels }) => labels)).toEqual(
      digests().map((digest, i) => ({
        'containerd.io/snapshot.ref': chain[i],
        [label('cri.image-ref')]: reference,
        [label('cri.manifest-digest')]: image.manifest.descriptor.digest,
        [label('cri.layer-digest')]: digest,
        [label('cri.image-layers')]: digests().slice(i).join(','),
        [label('remote/soci.index.digest')]: index,
      })),
    );
    for (const [i, { key, parent }] of snapshotter.prepared.entries()) {
      expect(key).toMatch(new RegExp(`^remote/\\d+/extract-\\d+-[\\w-]+ ${chain[i]}$`));
      expect(parent).toBe(i === 0 ? '' : `remote ${chain[i - 1]}`);
    }
    const { content, snapshots, leases } = await state();
    expect(Object.keys(content).toSorted()).toEqual([target, image.config.descriptor.digest].toSorted());
    expect(content[image.config.descriptor.digest]).toMatchObject({
      'containerd.io/gc.ref.snapshot.peel': chain.at(-1),
    });
    expect(Object.keys(snapshots).toSorted()).toEqual(chain.toSorted());
    expect(leases).toEqual({});
    await collectGarbage(containerd, namespace);
    expect(Object.keys((await state()).snapshots)).toHaveLength(layerCount);
  });

  it('fetches and unpacks what the snapshotter leaves, and only that', async () => {
    decide('lazy', 'deferred', 'lazy', 'deferred', 'lazy');
    // What was brought so far is not garbage.
    const done = registry.front.interfere(
      ({ url }) => url?.includes(digests()[3] ?? '') === true,
      (_request, _response, forward) => void collectGarbage(containerd, namespace).then(() => forward()),
    );
    const { layers } = await pull(registry.reference('app'));
    done();
    expect(layers.map(({ how }) => how)).toEqual(['lazy', 'unpacked', 'lazy', 'unpacked', 'lazy']);
    const [, second, , fourth] = image.layers.map(({ descriptor }) => descriptor);
    expect(layers.map(({ fetched }) => fetched)).toEqual([0, second?.size, 0, fourth?.size, 0]);
    expect(blobRequests()).toEqual([image.config.descriptor.digest, second?.digest, fourth?.digest]);
    const { snapshots } = await state();
    expect(Object.values(snapshots).every(({ committed }) => committed)).toBe(true);
    expect(snapshots[chain[3] ?? '']?.parent).toBe(chain[2]);
    // What was there before is told from what is made now.
    const again = await pull(registry.reference('app'));
    expect(again.layers.map(({ how, fetched }) => `${how} ${fetched}`)).toEqual(Array(layerCount).fill('present 0'));
  });

  it('gives up the layers ahead when the snapshotter turns out to make them', async () => {
    decide('deferred');
    // The layers ahead do not arrive before somebody gives them up.
    const release = registry.front.interfere(
      ({ url }) =>
        digests()
          .slice(1)
          .some((digest) => url?.includes(digest)),
      () => {},
    );
    const { layers } = await pull(registry.reference('app'));
    release();
    expect(layers.map(({ how }) => how)).toEqual(['unpacked', 'lazy', 'lazy', 'lazy', 'lazy']);
    const { content, writes } = await state();
    expect(writes).toEqual({});
    for (const digest of digests().slice(1)) expect(content[digest]).toBeUndefined();
  });

  it('hands on what annotations say to snapshotters, and no label that containerd would refuse', async () => {
    const annotated = image.layers.map((layer) => ({
      ...layer,
      descriptor: {
        ...layer.descriptor,
        annotations: {
          [label('stargz/toc.digest')]: 'sha256:toc',
          [label('too.long')]: 'x'.repeat(4096),
          [label('cri.image-ref')]: 'a lie',
          'com.example.other': 'not for snapshotters',
        },
      },
    }));
    // More layers than a label names.
    const many = describeImage(
      Array.from({ length: 60 }, (_, i) => annotated[i % layerCount] ?? annotated[0]) as never,
    );
    await pushImage(registry.store, 'many', 'latest', many);
    const { layers } = await pull(registry.reference('many'));
    expect(layers).toHaveLength(60);
    const first = snapshotter.prepared[0]?.labels ?? {};
    expect(Object.keys(first).toSorted()).toEqual(
      [
        'containerd.io/snapshot.ref',
        ...['cri.image-layers', 'cri.image-ref', 'cri.layer-digest', 'cri.manifest-digest', 'stargz/toc.digest'].map(
          label,
        ),
      ].toSorted(),
    );
    expect(first[label('cri.image-ref')]).toBe(registry.reference('many'));
    const list = first[label('cri.image-layers')] ?? '';
    expect(label('cri.image-layers').length + list.length).toBeLessThanOrEqual(4096);
    expect(list.split(',')).toEqual(many.layers.slice(0, 56).map(({ descriptor }) => descriptor.digest));
  });

  it('asks three times when the snapshotter knows a snapshot that nobody finds', async () => {
    decide('lazy', 'lies');
    await expect(pull(registry.reference('app'))).rejects.toMatchObject({ code: 'ERR_CONTAINERD_NOT_FOUND' });
    expect(
      snapshotter.prepared.filter(({ labels }) => positionOf(labels['containerd.io/snapshot.ref']) === 1),
    ).toHaveLength(3);
    expect((await state()).leases).toEqual({});
  });

  it('ends at once when it is interrupted, and leaves nothing', async () => {
    const interrupt = new AbortController();
    let answer = (_decision: Decision) => {};
    snapshotter.decide = () => {
      interrupt.abort(new Error('enough'));
      return new Promise<Decision>((resolve) => (answer = resolve));
    };
    const pulling = pull(registry.reference('app'), { signal: interrupt.signal });
    // The snapshot that is being made is waited for, and removed.
    setTimeout(() => answer('deferred'), 500);
    await expect(pulling).rejects.toThrow('enough');
    const { leases, snapshots } = await state();
    expect({ leases, snapshots }).toEqual({ leases: {}, snapshots: {} });
    await collectGarbage(containerd, namespace);
    expect(snapshotter.names).toEqual([]);
  });

  it('says what it cannot do', async () => {
    const notes = { ...image.config.descriptor, mediaType: 'application/x-notes' };
    const mediaType = mediaTypes.imageManifest;
    const manifest = { schemaVersion: 2, mediaType, config: notes, layers: [notes] };
    await registry.store.pushManifest('app', 'notes', Buffer.from(JSON.stringify(manifest)), mediaType);
    const platform = { os: 'linux', architecture: 'riscv64' };
    const index = {
      schemaVersion: 2,
      mediaType: mediaTypes.imageIndex,
      manifests: [{ ...image.manifest.descriptor, platform }],
    };
    await registry.store.pushManifest('app', 'index', Buffer.from(JSON.stringify(index)), index.mediaType);
    const cases: [string, Partial<PullOptions>, string, RegExp][] = [
      ['none', {}, 'ERR_IMAGE_UNKNOWN', /no such image: .*app:none/],
      ['notes', {}, 'ERR_IMAGE_UNSUPPORTED', /is not a container image/],
      ['index', {}, 'ERR_IMAGE_PLATFORM', /it has linux\/riscv64/],
      ['latest', { snapshotter: 'frob' }, 'ERR_CONTAINERD_ARGUMENT', /not loaded: frob.*proxy plugin/],
    ];
    for (const [tag, options, code, message] of cases)
      await expect(pull(registry.reference('app', tag), options)).rejects.toMatchObject({
        code,
        message: expect.stringMatching(message),
      });
    expect((await pull(registry.reference('app', 'index'), { platform })).target).not.toBe(
      image.manifest.descriptor.digest,
    );
  });

  it.each([
    ['nothing', 'ERR_CONTAINERD_UNREACHABLE', /\(ENOENT\)/],
    ['log', 'ERR_CONTAINERD_UNREACHABLE', /\(E/],
    // A gRPC server that is no containerd.
    ['snapshotter.sock', 'ERR_CONTAINERD_UNIMPLEMENTED', /is it a containerd/],
  ])('says that there is no containerd at a %s', async (name, code, message) => {
    const address = name.endsWith('.sock') ? snapshotter.proxy.socket : `unix://${containerd.dir}/${name}`;
    const reference = parseReference(registry.reference('app')) as RegistryReference;
    const pulling = pullToContainerd(
      { openOrigin: origins.open, address },
      { reference, namespace, snapshotter: 'peel' },
    );
    await expect(pulling).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
  });

  it('says that the snapshotter does not run', async () => {
    await snapshotter.close();
    try {
      await expect(pull(registry.reference('app'))).rejects.toMatchObject({
        code: 'ERR_CONTAINERD_UNAVAILABLE',
        message: expect.stringContaining('(is peel daemon running?)'),
      });
    } finally {
      await snapshotter.listen();
      // containerd waits before it connects again.
      await expect.poll(() => isPulled(registry.reference('app')), { timeout: 30_000 }).toBe(true);
    }
  });
});

/** Each with a file of its own, which compresses badly. */
function smallTars(registry: TestRegistry, count: number): string[] {
  const dir = registry.work('tars');
  mkdirSync(dir, { recursive: true });
  return Array.from({ length: count }, (_, i) => {
    const file = path.join(dir, `${i}.tar`);
    const data = Buffer.from(Array.from({ length: 3000 }, (_each, at) => (at * (i + 7) * 31) & 255));
    writeFileSync(file, tarOf({ path: `file-${i}`, data }));
    return file;
  });
}
