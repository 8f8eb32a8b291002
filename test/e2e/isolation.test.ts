// What one layer, one reader or one user does must not reach another.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { forBlob, stall } from '../support/faults.ts';
import { makeFixture, rounds } from '../support/fixtures.ts';
import type { BuiltImage } from '../support/image-builder.ts';
import { listTree, treeDifference } from '../support/list-tree.ts';
import { PeelNode, canMount } from '../support/peel-node.ts';
import { unpackWithTar } from '../support/reference-tree.ts';
import { run, runOk } from '../support/run.ts';
import { TestRegistry, layersOf } from '../support/test-registry.ts';

const readAt = new URL('../support/read-at.py', import.meta.url).pathname;

describe.skipIf(!canMount)('on one mount', () => {
  let registry: TestRegistry;
  let node: PeelNode;
  let image: BuiltImage;

  beforeAll(async () => {
    registry = await TestRegistry.start();
    const bulk = await makeFixture('bulk', registry.work('bulk'), '40');
    const zoo = await makeFixture('zoo', registry.work('zoo'));
    image = await registry.push('two', layersOf([...bulk, ...zoo.slice(0, 1)], 'pigz'));
    const indexer = new PeelNode();
    const sizes = ['--min-layer-size', '0', '--span-size', '256KiB'];
    await indexer.ok(['index', 'create', registry.reference('two'), '--push', ...sizes]);
    await indexer.close();
  });
  afterAll(() => registry.close());
  beforeEach(() => {
    node = new PeelNode();
  });
  afterEach(() => node.close());

  /** Reads that will not be answered; `ready` when they were begun. */
  function reader(paths: readonly string[], count: number) {
    const child = spawn('python3', [readAt, paths.join(','), '1', '--spread', String(count)], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    const exit = once(child, 'exit');
    // Nothing answers a stalled read before the test releases it: that the process ends at all is what is tested.
    const kill = async (): Promise<void> => {
      child.kill('SIGKILL');
      await exit;
    };
    return { ready: once(child.stderr, 'data'), kill };
  }

  for (const transport of ['kernel', 'native'] as const) {
    it(`reads of one layer go on while 2 000 wait for another, and a killed reader dies at once, ${transport}`, async () => {
      const bulk = image.layers[0]?.descriptor.digest ?? '';
      const dir = await node.mount(registry.reference('two'), transport, '--index', 'require');
      const stalled = stall();
      const healed = registry.front.interfere(forBlob(bulk), stalled.fault);
      const files = Array.from({ length: 40 }, (_, i) => join(dir, `bulk/00${String(i).padStart(2, '0')}`));
      const readers = reader(files, 50);
      try {
        await readers.ready;
        await new Promise((resolve) => setTimeout(resolve, 500));
        await runOk('sha256sum', [join(dir, 'big')], { timeout: 10_000 });

        const victim = reader([join(dir, 'bulk/0025')], 1);
        await victim.ready;
        await new Promise((resolve) => setTimeout(resolve, 200));
        await victim.kill();
      } finally {
        await readers.kill();
        healed();
        stalled.release();
      }
      await runOk('sha256sum', [join(dir, 'bulk/0000')]);
    });

    it(`another user reads what the image lets everybody read, and not a 0600 file of root, ${transport}`, async () => {
      await chmod(node.dir, 0o755);
      const dir = await node.mount(registry.reference('two'), transport);
      const as = (path: string) =>
        run('setpriv', ['--reuid', '65534', '--regid', '65534', '--clear-groups', 'cat', join(dir, path)]);
      const open = await as('bin/one');
      expect(open.err).toBe('');
      expect(open.out).toBe('1');
      const closed = await as('bin/block');
      expect(closed.code).toBe(1);
      expect(closed.err).toContain('Permission denied');
      expect(closed.out).toBe('');
    });

    it(`bytes of a layer that was removed never show in another one, ${transport}`, async () => {
      for (let round = 0; round < Math.min(rounds(6, 2, 0.3), 6); round++) {
        const name = `round-${transport}-${round}`;
        const tars = await makeFixture('bulk', registry.work(name), '3', name);
        await registry.push(name, layersOf(tars, 'gzip'));
        const expected = await listTree(await unpackWithTar(registry.work(`${name}-reference`), tars));
        const dir = await node.mount(registry.reference(name), transport);
        expect(treeDifference(await listTree(dir), expected)).toBe('');
        await node.umount(dir);
        await node.ok(['cache', 'rm', '--all']);
      }
    });
  }
});
