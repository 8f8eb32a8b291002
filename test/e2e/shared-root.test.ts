// Several processes on one state directory: two fill it through mounts, one reads, one prunes; every byte stays right.
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeFixture, rounds } from '../support/fixtures.ts';
import { PeelNode, canMount } from '../support/peel-node.ts';
import { run, runOk } from '../support/run.ts';
import { TestRegistry, layersOf } from '../support/test-registry.ts';

const checkout = new URL('../..', import.meta.url).pathname;
const fileCount = 60;

describe.skipIf(!canMount)('four processes on one root', () => {
  let registry: TestRegistry;
  const sums = new Map<string, string>();

  beforeAll(async () => {
    registry = await TestRegistry.start();
    for (const image of ['first', 'second']) {
      const tars = await makeFixture('bulk', registry.work(image), String(fileCount), image);
      await registry.push(image, layersOf(tars, 'pigz'));
      const indexer = new PeelNode();
      const sizes = ['--min-layer-size', '0', '--span-size', '1MiB'];
      await indexer.ok(['index', 'create', registry.reference(image), '--push', ...sizes]);
      await indexer.close();
      const listed = await runOk('sh', ['-c', `cd ${registry.work(image)} && tar -xf 00-bulk.tar && sha256sum bulk/*`]);
      for (const line of listed.trim().split('\n')) sums.set(`${image}/${line.slice(66)}`, line.slice(0, 64));
    }
  });
  afterAll(() => registry.close());

  it('never see a wrong byte while they fill, read and prune', async () => {
    const node = new PeelNode();
    const deadline = performance.now() + rounds(12, 6) * 1000;
    const going = (): boolean => performance.now() < deadline;
    let checked = 0;
    const check = (image: string, path: string, sum: string): void => {
      expect(sum, `${image}: ${path}`).toBe(sums.get(`${image}/${path}`));
      checked++;
    };

    async function fill(image: string, transport: 'kernel' | 'native'): Promise<void> {
      while (going()) {
        const dir = await node.mount(registry.reference(image), transport);
        for (let i = 0; i < 3 && going(); i++) {
          const paths = Array.from({ length: 12 }, anyFile);
          const listed = await runOk(
            'sha256sum',
            paths.map((path) => join(dir, path)),
          );
          for (const [at, line] of listed.trim().split('\n').entries())
            check(image, paths[at] ?? '', line.slice(0, 64));
        }
        await node.umount(dir);
      }
    }

    async function read(): Promise<void> {
      for (let i = 0; going(); i++) {
        const [image, path] = [i % 2 === 0 ? 'first' : 'second', anyFile()];
        const command = `node dist/cli/main.js cat ${registry.reference(image)} ${path} | sha256sum`;
        const { out, err } = await run('sh', ['-c', command], { cwd: checkout, env: { ...node.env } });
        expect(err).toBe('');
        check(image, path, out.slice(0, 64));
      }
    }

    async function prune(): Promise<void> {
      while (going()) {
        await node.ok(['cache', 'prune', '--max-size', '0']);
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }

    try {
      await Promise.all([fill('first', 'kernel'), fill('second', 'native'), read(), prune()]);
      // How much they get done is up to the machine.
      expect(checked).toBeGreaterThan(2);
    } finally {
      await node.close();
    }
  });
});

function anyFile(): string {
  return `bulk/${String(Math.floor(Math.random() * fileCount)).padStart(4, '0')}`;
}
