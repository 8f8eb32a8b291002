// A mounted tree equals what other programs unpack from the same layers: every name, attribute and byte.
import { isUtf8 } from 'node:buffer';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { makeFixture, rounds } from '../support/fixtures.ts';
import { fileSystemAt } from '../support/leftovers.ts';
import { listTree, treeDifference } from '../support/list-tree.ts';
import { PeelNode, type Transport, canMount } from '../support/peel-node.ts';
import { unpackWithTar, unpackWithUmoci } from '../support/reference-tree.ts';
import { TestRegistry, layersOf } from '../support/test-registry.ts';

const fileSystems: Record<Transport, string> = { kernel: 'erofs', native: 'fuse', 'fuse-native': 'fuse' };

/** A tree of 50 000 is compared once in every run, by test/tree/erofs-writer.test.ts. */
const wideFiles = Math.min(rounds(50_000, 3_000, 0.06), 50_000);

describe.skipIf(!canMount)('a mounted tree', () => {
  let registry: TestRegistry;
  let node: PeelNode;
  const expected = new Map<string, string[]>();

  beforeAll(async () => {
    registry = await TestRegistry.start();
    const zoo = await makeFixture('zoo', registry.work('zoo'));
    await registry.push('zoo', layersOf(zoo, 'gzip-9', 'pigz', 'none', 'members', 'gzip'));
    await registry.push('zoo-unindexed', layersOf(zoo, 'members', 'zstd', 'gzip', 'none', 'zstd'), {
      mediaTypes: 'docker',
    });
    const zooTree = await listTree(await unpackWithUmoci(registry.work('zoo-reference'), zoo));
    expected.set('zoo', zooTree).set('zoo-unindexed', zooTree);

    const sparse = await makeFixture('sparse', registry.work('sparse'));
    await registry.push('sparse', layersOf(sparse, 'gzip'));
    expected.set('sparse', await listTree(await unpackWithTar(registry.work('sparse-reference'), sparse)));

    const wide = await makeFixture('wide', registry.work('wide'), `${wideFiles}`);
    await registry.push('wide', layersOf(wide, 'pigz'));
    expected.set('wide', await listTree(await unpackWithTar(registry.work('wide-reference'), wide)));

    const indexer = new PeelNode();
    for (const name of ['zoo', 'wide']) {
      const sizes = ['--min-layer-size', '0', '--peel-span-size', name === 'zoo' ? '64KiB' : '256KiB'];
      await indexer.ok(['index', 'create', registry.reference(name), '--push', ...sizes]);
    }
    await indexer.close();
  });
  afterAll(() => registry.close());
  beforeEach(() => {
    node = new PeelNode();
  });
  afterEach(() => node.close());

  async function compare(name: string, transport: Transport): Promise<void> {
    const dir = await node.mount(registry.reference(name), transport);
    expect(fileSystemAt(dir)).toBe(fileSystems[transport]);
    const actual = await listTree(dir);
    expect(treeDifference(actual, expected.get(name) ?? [])).toBe('');
    await node.umount(dir);
    expect(fileSystemAt(dir)).toBeUndefined();
  }

  for (const transport of ['kernel', 'native'] as const) {
    it(`equals what umoci unpacks: all shapes of names and inodes, lazily, ${transport}`, () =>
      compare('zoo', transport));
    it(`equals the same without an index, ${transport}`, () => compare('zoo-unindexed', transport));
    it(`equals what tar unpacks: sparse files and global headers, ${transport}`, () => compare('sparse', transport));
    it(`equals with ${wideFiles} files in one directory, ${transport}`, () => compare('wide', transport));
  }

  it('equals on fuse-native in all that UTF-8 paths can carry, and the rest is refused by name', async () => {
    const dir = await node.newDir();
    const mounted = await node.peel(['mount', registry.reference('zoo'), dir, '--transport', 'fuse-native']);
    expect(mounted.code, mounted.err).toBe(0);
    expect(mounted.err).toMatch(/left out/);
    const actual = await listTree(dir);
    const carried = (expected.get('zoo') ?? []).filter(isCarried).map(withCarriedTime);
    expect(treeDifference(actual, carried)).toBe('');
    await node.umount(dir);
  });
});

/** Paths and link targets are UTF-8 text there. */
function isCarried(line: string): boolean {
  return [0, 10].every((column) => {
    const escaped = line.split('\t')[column] ?? '';
    const bytes = escaped.replace(/\\x(..)/g, (_all, hex: string) => String.fromCharCode(parseInt(hex, 16)));
    return isUtf8(Buffer.from(bytes, 'latin1'));
  });
}

/** The package carries times in whole milliseconds from 1970 on. */
function withCarriedTime(line: string): string {
  const columns = line.split('\t');
  const ns = BigInt(columns[5] ?? 0);
  columns[5] = String(ns < 0n ? 0n : ns - (ns % 1_000_000n));
  return columns.join('\t');
}
