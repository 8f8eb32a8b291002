// The files of the cache are cut short, changed and deleted under a running daemon, while readers compare every byte.
import { randomBytes } from 'node:crypto';
import { rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { CheckingReader } from '../support/checking-reader.ts';
import type { ReaderCounts } from '../support/checking-reader.ts';
import { DaemonProcess } from '../support/daemon-process.ts';
import { random } from '../support/damage.ts';
import { isFullScale, rounds } from '../support/fixtures.ts';
import { flipBit } from '../support/flip-bit.ts';
import { canMount, PeelNode } from '../support/peel-node.ts';
import type { Transport } from '../support/peel-node.ts';
import { tarOf } from '../support/tar-members.ts';
import { layersOf, TestRegistry } from '../support/test-registry.ts';

const size = 6 << 20;
const readers = 4;
/** ms. */
const pause = 60;

interface World {
  readonly registry: TestRegistry;
  readonly node: PeelNode;
  readonly daemon: DaemonProcess;
  readonly reference: string;
  /** The same file as in the image. */
  readonly right: string;
  /** The layer's files. */
  readonly dir: string;
  readonly dataSize: number;
}

/** A daemon and an image of one layer, none of it here. */
async function world({ indexed }: { readonly indexed: boolean }): Promise<World> {
  const registry = await TestRegistry.start();
  onTestFinished(() => registry.close());
  const node = new PeelNode();
  onTestFinished(() => node.close());
  const bytes = randomBytes(size);
  const right = join(node.dir, 'right');
  writeFileSync(right, bytes);
  const tar = tarOf({ path: 'f', data: bytes });
  const file = join(node.dir, 'layer.tar');
  writeFileSync(file, tar);
  const image = await registry.push('app', layersOf([file]));
  const reference = registry.reference('app');
  const indexer = new PeelNode();
  if (indexed)
    await indexer.ok(['index', 'create', reference, '--push', '--span-size', '256KiB', '--min-layer-size', '0']);
  await indexer.close();
  const daemon = await DaemonProcess.start(node, { config: quiet });
  const hex = image.layers[0]?.descriptor.digest.slice(7) ?? '';
  return { registry, node, daemon, reference, right, dir: join(node.root, 'blobs/sha256', hex), dataSize: tar.length };
}

/** Lazily, whatever is here: nothing is filled. */
const quiet = ['[fill]', 'enabled = false', '[read_ahead]', 'enabled = false', '[scrub]', 'enabled = false'].join('\n');

async function startReaders(dir: string, { right }: World): Promise<CheckingReader[]> {
  const started = Array.from({ length: readers }, (_, i) => CheckingReader.start(join(dir, 'f'), right, i));
  for (const reader of started) await reader.counts();
  return started;
}

function sum(all: readonly ReaderCounts[]): Pick<ReaderCounts, 'reads' | 'wrong' | 'failed'> & { longestMs: number } {
  const total = (pick: (counts: ReaderCounts) => number) => all.reduce((before, counts) => before + pick(counts), 0);
  const longestMs = Math.max(...all.map((counts) => counts.longestMs));
  return { reads: total((c) => c.reads), wrong: total((c) => c.wrong), failed: total((c) => c.failed), longestMs };
}

describe.skipIf(!canMount)('cache files under a running daemon', () => {
  it.each<Transport>(isFullScale() ? ['kernel', 'native'] : ['native'])(
    'that are cut short or deleted harm no lazy reader (%s)',
    async (transport) => {
      const here = await world({ indexed: true });
      const dir = await here.daemon.mount(here.reference, { transport });
      const running = await startReaders(dir, here);
      const below = random(7);
      for (let round = 0; round < rounds(60, 12, 0.2); round += 1) {
        const file = ['data', 'data', 'data', 'present', 'sums', 'index', 'windows'][below(7)] ?? 'data';
        // A bitmap or an index that is gone is missed by nobody who has the layer open.
        if (file === 'data') truncateSync(join(here.dir, file), below(here.dataSize));
        else rmSync(join(here.dir, file), { force: true });
        await delay(pause);
      }
      rmSync(join(here.dir, 'data'));
      await delay(pause);
      const seen = sum(await Promise.all(running.map((reader) => reader.end())));
      expect(seen).toMatchObject({ wrong: 0, failed: 0 });
      expect(seen.reads).toBeGreaterThan(readers);
      await here.daemon.unmount(dir);
      // What is left of it is made anew by the next one, which finds it in nobody's hands.
      expect(await here.daemon.end()).toBe(0);
      expect((await here.node.peel(['fsck', '--repair'])).code).toBeLessThan(2);
      const next = await DaemonProcess.start(here.node, { config: quiet });
      const again = await next.mount(here.reference, { transport });
      const after = sum(await Promise.all((await startReaders(again, here)).map((reader) => reader.end())));
      expect(after).toMatchObject({ wrong: 0, failed: 0 });
      expect(await next.end()).toBe(0);
    },
  );

  it.each<Transport>(isFullScale() ? ['kernel', 'native'] : ['kernel'])(
    'that are changed are wrong until fsck mends them (%s)',
    async (transport) => {
      const here = await world({ indexed: false });
      // Without an index it is complete from the start: the kernel reads the file by itself where it can.
      const dir = await here.daemon.mount(here.reference, { transport });
      const running = await startReaders(dir, here);
      const below = random(11);
      let sawWrong = 0;
      for (let round = 0; round < rounds(20, 1, 0.05); round += 1) {
        for (let i = 0; i < 20; i += 1) flipBit(join(here.dir, 'data'), 512 + below(size));
        await delay(4 * pause);
        const seen = await here.node.peel(['fsck']);
        expect([seen.code, seen.out]).toEqual([4, expect.stringMatching(/spans have wrong bytes/)]);
        const repaired = await here.node.peel(['fsck', '--repair']);
        expect([repaired.code, repaired.out]).toEqual([1, expect.stringMatching(/fetched again/)]);
        sawWrong += sum(await Promise.all(running.map((reader) => reader.counts()))).wrong;
        await delay(4 * pause);
        expect(sum(await Promise.all(running.map((reader) => reader.counts())))).toMatchObject({ wrong: 0, failed: 0 });
      }
      expect(sawWrong).toBeGreaterThan(0);
      expect((await here.node.peel(['fsck'])).code).toBe(0);
      for (const reader of running) await reader.end();
      expect(await here.daemon.end()).toBe(0);
    },
  );
});
