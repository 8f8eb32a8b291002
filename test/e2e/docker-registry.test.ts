// The same against a registry by other people, which has no referrers API: the index is found through the fallback tag.
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { RemoteRegistry } from '../../src/registry/remote-registry.ts';
import type { LayerStatus } from '../../src/image/image.ts';
import { digestHex } from '../../src/oci/digest.ts';
import { type DockerRegistry, startDockerRegistry } from '../support/docker-registry.ts';
import { makeFixture } from '../support/fixtures.ts';
import { type BuiltImage, buildImage, pushImage } from '../support/image-builder.ts';
import { listTree, treeDifference } from '../support/list-tree.ts';
import { PeelNode, canMount } from '../support/peel-node.ts';
import { unpackWithUmoci } from '../support/reference-tree.ts';
import { RegistryFront } from '../support/registry-front.ts';
import { runOk } from '../support/run.ts';
import { layersOf } from '../support/test-registry.ts';
import { keptTempDir } from '../support/tmp.ts';

describe.skipIf(!canMount)('against docker-registry', () => {
  const work = keptTempDir('peel-docker-');
  let registry: DockerRegistry;
  let front: RegistryFront;
  let node: PeelNode;
  let image: BuiltImage;
  let expected: string[];
  let reference: string;

  beforeAll(async () => {
    registry = await startDockerRegistry();
    front = await RegistryFront.start(registry.host);
    const zoo = await makeFixture('zoo', join(work.path, 'zoo'));
    image = await buildImage(join(work.path, 'image'), layersOf(zoo, 'gzip', 'pigz'));
    await pushImage(new RemoteRegistry({ host: front.host }), 'library/zoo', 'v1', image);
    expected = await listTree(await unpackWithUmoci(join(work.path, 'reference'), zoo));
    reference = `${front.host}/library/zoo:v1`;
  });
  afterAll(async () => {
    await front.close();
    await registry.close();
    work[Symbol.dispose]();
  });
  beforeEach(() => {
    node = new PeelNode();
  });
  afterEach(() => node.close());

  it('pushes an index under the fallback tag, finds it there, and mounts lazily and equal', async () => {
    await node.ok(['index', 'create', reference, '--push', '--format', 'soci', '--min-layer-size', '0']);
    const tag = `sha256-${digestHex(image.manifest.descriptor.digest)}`;
    expect(front.seen(`/manifests/${tag}`).map(({ method }) => method)).toContain('PUT');
    await node.close();

    node = new PeelNode();
    front.forget();
    const dir = await node.mount(reference, 'auto', '--index', 'require');
    const { layers } = await node.json<{ layers: LayerStatus[] }>(['inspect', reference]);
    expect(layers.map(({ index }) => index?.format)).toEqual(layers.map(() => 'soci-v1'));
    const blob = `/blobs/${image.layers[0]?.descriptor.digest}`;
    expect(front.bytes(blob)).toBe(0);
    await runOk('cat', [join(dir, 'bin/one')]);
    expect(front.bytes(blob)).toBeGreaterThan(0);
    for (const request of front.seen(blob)) expect(request).toMatchObject({ method: 'GET', status: 206 });
    expect(treeDifference(await listTree(dir), expected)).toBe('');
    await node.umount(dir);
  });
});
