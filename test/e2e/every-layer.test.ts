// Images as they really are: no index, zstd, layers too small for one, padding that an index does not count.
import { appendFile, copyFile } from 'node:fs/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { LayerStatus } from '../../src/image/image.ts';
import { readZtoc } from '../../src/index/ztoc-reader.ts';
import { makeFixture } from '../support/fixtures.ts';
import { type BuiltImage, writeLayout } from '../support/image-builder.ts';
import { listTree, treeDifference } from '../support/list-tree.ts';
import { PeelNode, canMount } from '../support/peel-node.ts';
import { unpackWithUmoci } from '../support/reference-tree.ts';
import { pushSociIndex, pushedZtocs } from '../support/soci-index.ts';
import { TestRegistry, layersOf } from '../support/test-registry.ts';

const padding = 1 << 20;

describe.skipIf(!canMount)('an image', () => {
  let registry: TestRegistry;
  let node: PeelNode;
  let tars: string[];
  let expected: string[];

  beforeAll(async () => {
    registry = await TestRegistry.start();
    tars = await makeFixture('zoo', registry.work('zoo'));
    expected = await listTree(await unpackWithUmoci(registry.work('reference'), tars));
  });
  afterAll(() => registry.close());
  beforeEach(() => {
    node = new PeelNode();
  });
  afterEach(() => node.close());

  async function mountsEqual(reference: string, ...flags: string[]): Promise<void> {
    const dir = await node.mount(reference, 'auto', ...flags);
    expect(treeDifference(await listTree(dir), expected)).toBe('');
    await node.umount(dir);
  }

  async function layers(reference: string, ...flags: string[]): Promise<readonly LayerStatus[]> {
    return (await node.json<{ layers: LayerStatus[] }>(['inspect', reference, ...flags])).layers;
  }

  it('without an index mounts and equals; inspect says that there is none', async () => {
    await registry.push('plain', layersOf(tars, 'gzip'));
    await mountsEqual(registry.reference('plain'));
    for (const { reason, serving } of await layers(registry.reference('plain'))) {
      expect(serving).toBe('complete');
      expect(reason).toMatch(/no (remote |usable )?index/i);
    }
  });

  it('with zstd layers mounts and equals; inspect names zstd', async () => {
    await registry.push('zstd', layersOf(tars, 'zstd'));
    await mountsEqual(registry.reference('zstd'));
    for (const { reason } of await layers(registry.reference('zstd'))) expect(reason).toContain('zstd');
  });

  it('with layers below the minimum size mounts and equals; inspect tells them from the lazy one', async () => {
    await registry.push('small', layersOf(tars, 'gzip'));
    await node.ok([
      'index',
      'create',
      registry.reference('small'),
      '--push',
      '--format',
      'soci',
      '--min-layer-size',
      '1MiB',
    ]);
    await node.ok(['cache', 'rm', '--all']);
    const before = await layers(registry.reference('small'));
    expect(before.map(({ index }) => index?.format === 'soci-v1')).toEqual([true, false, false, false, false]);
    expect(before[0]).toMatchObject({ serving: 'lazy', presentSpans: 0 });
    await mountsEqual(registry.reference('small'));
    const after = await layers(registry.reference('small'));
    for (const layer of after.slice(1)) {
      expect(layer.serving).toBe('complete');
      expect(layer.reason).toMatch(/not in the index|minimum|small/i);
    }
  });

  it('whose index stops before 1 MiB of tar padding mounts, equals, and becomes complete', async () => {
    const padded = registry.work('zoo/padded');
    await copyFile(tars[0] ?? '', padded);
    await appendFile(padded, Buffer.alloc(padding));
    const image = await registry.push('padded', layersOf([padded, ...tars.slice(1)], 'gzip'));
    await node.ok([
      'index',
      'create',
      registry.reference('padded'),
      '--push',
      '--format',
      'soci',
      '--min-layer-size',
      '0',
    ]);
    await node.ok(['cache', 'rm', '--all']);
    await stopsBeforePadding(image);
    await mountsEqual(registry.reference('padded'), '--index', 'require');
    const [status] = await layers(registry.reference('padded'));
    expect(status).toMatchObject({ index: { format: 'soci-v1' } });
  });

  /** The index states a stream size before the padding; where ours counts it, an index that does not takes its place. */
  async function stopsBeforePadding(image: BuiltImage): Promise<void> {
    const [ztoc] = await pushedZtocs(registry.store, 'padded', image.manifest.descriptor);
    const stated = readZtoc(ztoc?.bytes ?? new Uint8Array()).spans.streamSize;
    expect(stated).toBeLessThanOrEqual((image.layers[0]?.streamSize ?? 0) - padding);
  }

  it('in an OCI layout on the disk mounts and equals', async () => {
    const image = await registry.push('for-layout', layersOf(tars, 'gzip', 'zstd', 'none'));
    const layout = registry.work('layout');
    await writeLayout(layout, 'v1', image);
    await mountsEqual(`oci:${layout}:v1`);
    await pushSociIndex(registry.store, 'for-layout', image.manifest.descriptor, []);
    await mountsEqual(registry.reference('for-layout'));
  });
});
