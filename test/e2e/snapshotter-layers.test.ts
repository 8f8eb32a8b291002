// Layers by number: many in one image, and none when their image is gone.
import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { rounds } from '../support/fixtures.ts';
import { canMount } from '../support/peel-node.ts';
import { SnapshotterWorld } from '../support/snapshotter-world.ts';
import type { BuiltMember } from '../support/tar-builder.ts';

describe.skipIf(!canMount)('layers', () => {
  let world: SnapshotterWorld;

  beforeAll(async () => {
    world = await SnapshotterWorld.start();
  });
  beforeEach(() => world.explainFailure());
  afterAll(async () => expect(await world.close()).toEqual([]));

  it('of one image may be 60, or 127', async () => {
    const { containerd, daemon } = world;
    const layers = Array.from({ length: 126 }, (_, i) => layerOf(i + 1));
    // The longest that builders make, at the full scale only.
    for (const count of rounds(2, 1, 0.1) === 2 ? [60, 127] : [60]) {
      const { reference } = await world.image(`deep-${count}`, layers.slice(0, count - 1));
      await world.pull(reference);
      expect((await daemon.status()).layers).toHaveLength(count);
      const { out } = await containerd.run(reference, ['sh', '-c', 'cat /last && ls /each | head -n 3 && cat /each/*']);
      const left = Array.from({ length: count - 1 }, (_, i) => i + 1).filter((i) => i % 2 === 0 || i === count - 1);
      const names = left.map((i) => String(i).padStart(3, '0'));
      const contents = left.map((i) => `layer ${i}`);
      expect(out.trim().split('\n')).toEqual([`${count - 1}`, ...names.slice(0, 3), ...contents]);
    }
  });

  it('are unmounted and their bytes freed when no image has them any more', async () => {
    const { containerd, daemon } = world;
    const images = (await containerd.ctr('image', 'ls', '-q')).trim().split('\n');
    expect(daemon.layerMounts().length).toBeGreaterThan(0);
    await containerd.ctr('image', 'rm', '--sync', ...images);
    expect(await containerd.snapshots()).toEqual([]);
    // Cleanup comes after the collection that ctr has waited for.
    for (let tries = 0; tries < 100 && daemon.layerMounts().length > 0; tries += 1) await delay(50);
    expect(daemon.layerMounts()).toEqual([]);
    expect((await daemon.status()).layers).toEqual([]);
    for (let tries = 0; tries < 100 && cached().length > 0; tries += 1) await delay(50);
    expect(cached()).toEqual([]);
    expect(JSON.parse(await daemon.ok(['cache', 'ls', '--json']))).toEqual([]);
  });

  function cached(): string[] {
    const snapshots = path.join(world.daemon.root, 's');
    return existsSync(snapshots) ? readdirSync(snapshots) : [];
  }
});

/** One file of its own, one that it replaces, and every second takes away the file of the one below. */
function layerOf(i: number): BuiltMember[] {
  const name = (number: number) => String(number).padStart(3, '0');
  const own = [
    { name: 'last', data: `${i}\n` },
    { name: `each/${name(i)}`, data: `layer ${i}\n` },
  ];
  return i % 2 === 0 ? [...own, { name: `each/.wh.${name(i - 1)}` }] : own;
}
