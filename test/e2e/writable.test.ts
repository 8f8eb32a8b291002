// `--rw`: changes lie beside the image, stay in `--upper`, and never reach the image.
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { makeFixture } from '../support/fixtures.ts';
import { listTree, treeDifference } from '../support/list-tree.ts';
import { PeelNode, canMount } from '../support/peel-node.ts';
import { unpackWithUmoci } from '../support/reference-tree.ts';
import { runOk } from '../support/run.ts';
import { TestRegistry, layersOf } from '../support/test-registry.ts';

describe.skipIf(!canMount)('a writable mount', () => {
  let registry: TestRegistry;
  let node: PeelNode;
  let expected: string[];

  beforeAll(async () => {
    registry = await TestRegistry.start();
    const tars = await makeFixture('zoo', registry.work('zoo'));
    await registry.push('zoo', layersOf(tars, 'gzip'));
    expected = await listTree(await unpackWithUmoci(registry.work('reference'), tars));
  });
  afterAll(() => registry.close());
  beforeEach(() => {
    node = new PeelNode();
  });
  afterEach(() => node.close());

  for (const transport of ['kernel', 'native'] as const) {
    // To unmount an overlay writes out all that the disk of its changes has yet to write, whoever wrote it.
    const timeout = 240_000;
    it(`takes changes, keeps them in --upper, and leaves the image alone, ${transport}`, { timeout }, async () => {
      const upper = await node.newDir('upper');
      const dir = await node.mount(registry.reference('zoo'), transport, '--rw', '--upper', upper);
      const script =
        'echo changed > bin/one && rm links/target && echo new > fresh && chmod 700 big && cat bin/one fresh';
      expect(await runOk('sh', ['-c', `cd ${dir} && ${script}`])).toBe('changed\nnew\n');
      const changed = await listTree(dir, { overlay: true });
      await node.umount(dir);

      const again = await node.mount(registry.reference('zoo'), transport, '--rw', '--upper', upper);
      expect(treeDifference(await listTree(again, { overlay: true }), changed)).toBe('');
      await node.umount(again);

      const plain = await node.mount(registry.reference('zoo'), transport);
      expect(treeDifference(await listTree(plain), expected)).toBe('');
      await expect(runOk('touch', [join(plain, 'new')])).rejects.toThrow(/Read-only file system/);
      await node.umount(plain);
    });
  }
});
