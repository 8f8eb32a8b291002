// Indexes that are missing, broken or for something else: said once, then as if there were none; `--index require` refuses.
import { createHash } from 'node:crypto';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { forBlob } from '../support/faults.ts';
import { isFullScale, makeFixture, rounds } from '../support/fixtures.ts';
import type { BuiltImage } from '../support/image-builder.ts';
import { fileSystemAt, processesUsing } from '../support/leftovers.ts';
import { listTree, treeDifference } from '../support/list-tree.ts';
import { PeelNode, canMount } from '../support/peel-node.ts';
import { unpackWithTar } from '../support/reference-tree.ts';
import { run } from '../support/run.ts';
import { pushSociIndex, pushedZtocs } from '../support/soci-index.ts';
import { TestRegistry, layersOf } from '../support/test-registry.ts';

describe.skipIf(!canMount)('an index', () => {
  let registry: TestRegistry;
  let node: PeelNode;
  let tars: string[];
  let ztoc: Uint8Array;
  let expected: string[];
  let images = 0;

  beforeAll(async () => {
    registry = await TestRegistry.start();
    tars = await makeFixture('bulk', registry.work('bulk'), '4');
    const image = await registry.push('indexed', layersOf(tars, 'gzip'));
    const indexer = new PeelNode();
    const sizes = ['--min-layer-size', '0', '--span-size', '256KiB'];
    await indexer.ok(['index', 'create', registry.reference('indexed'), '--push', ...sizes]);
    await indexer.close();
    ztoc = (await pushedZtocs(registry.store, 'indexed', image.manifest.descriptor))[0]?.bytes ?? new Uint8Array();
    expect(ztoc.length).toBeGreaterThan(32_768);
    expected = await listTree(await unpackWithTar(registry.work('reference'), tars));
  });
  afterAll(() => registry.close());
  beforeEach(() => {
    node = new PeelNode();
  });
  afterEach(() => node.close());

  /** The same image under a new name, with `bytes` pushed as the zTOC of its layer. */
  async function withZtoc(bytes: Uint8Array): Promise<{ reference: string; image: BuiltImage }> {
    const name = `broken-${images++}`;
    const image = await registry.push(name, layersOf(tars, 'gzip'));
    const layer = image.layers[0]?.descriptor;
    if (layer)
      await pushSociIndex(registry.store, name, image.manifest.descriptor, [{ layer, bytes, spanSize: 1 << 18 }]);
    return { reference: registry.reference(name), image };
  }

  async function refused(args: readonly string[], message: RegExp): Promise<void> {
    const dir = await node.newDir();
    const result = await node.peel(['mount', ...args, dir]);
    expect(result.code, result.err).toBe(1);
    expect(result.err).toMatch(message);
    expect(result.err).not.toMatch(/\n\s+at /);
    expect(fileSystemAt(dir)).toBeUndefined();
    expect(processesUsing(node.dir)).toEqual([]);
  }

  it('that is required and missing is named missing', async () => {
    await registry.push('bare', layersOf(tars, 'gzip'));
    await refused([registry.reference('bare'), '--index', 'require'], /no .*index/i);
  });

  it('asked for by a digest that the registry does not have is named', async () => {
    const digest = `sha256:${createHash('sha256').update('nothing').digest('hex')}`;
    await refused([registry.reference('indexed'), '--index', digest], new RegExp(digest.slice(0, 15)));
  });

  it('of another layer is refused when required, else said and passed over', async () => {
    const other = await makeFixture('bulk', registry.work('other'), '5', 'other');
    const image = await registry.push('foreign', layersOf(other, 'gzip'));
    const layer = image.layers[0]?.descriptor;
    if (!layer) throw new Error('no layer');
    await pushSociIndex(registry.store, 'foreign', image.manifest.descriptor, [
      { layer, bytes: ztoc, spanSize: 1 << 18 },
    ]);
    await refused([registry.reference('foreign'), '--index', 'require'], /index|zTOC/i);
    const dir = await node.newDir();
    const mounted = await node.peel(['mount', registry.reference('foreign'), dir]);
    expect(mounted.code, mounted.err).toBe(0);
    expect(mounted.err).toMatch(/zTOC|index/i);
    const wanted = await listTree(await unpackWithTar(registry.work('foreign-reference'), other));
    expect(treeDifference(await listTree(dir), wanted)).toBe('');
  });

  const cuts: [string, (whole: Uint8Array) => Uint8Array][] = [
    ['nothing', () => new Uint8Array()],
    ['100 bytes', (whole) => whole.subarray(0, 100)],
    ['half', (whole) => whole.subarray(0, whole.length >> 1)],
    ['all but the last 1000 bytes', (whole) => whole.subarray(0, -1000)],
    ['its second half', (whole) => whole.subarray(whole.length >> 1)],
  ];
  it.each(cuts)('cut to %s is refused when required; the image mounts without it and equals', async (name, cut) => {
    const { reference } = await withZtoc(cut(ztoc));
    await refused([reference, '--index', 'require'], /index|zTOC/i);
    // Without an index the mount takes the longest, and does the same whatever was wrong with it.
    if (name !== 'half' && !isFullScale()) return;
    const dir = await node.mount(reference);
    expect(treeDifference(await listTree(dir), expected)).toBe('');
  });

  it('that was damaged on the way is refused by its digest', async () => {
    const image = await registry.push('damaged', layersOf(tars, 'gzip'));
    const layer = image.layers[0]?.descriptor;
    if (!layer) throw new Error('no layer');
    await pushSociIndex(registry.store, 'damaged', image.manifest.descriptor, [
      { layer, bytes: ztoc, spanSize: 1 << 18 },
    ]);
    const damaged = Buffer.from(flipped(ztoc, Math.floor(Math.random() * ztoc.length), 3));
    const digest = `sha256:${createHash('sha256').update(ztoc).digest('hex')}`;
    const healed = registry.front.interfere(forBlob(digest), (_request, response) => {
      response.writeHead(200, { 'content-length': damaged.length });
      response.end(damaged);
    });
    try {
      await refused([registry.reference('damaged'), '--index', 'require'], new RegExp(digest.slice(0, 15)));
      const dir = await node.mount(registry.reference('damaged'));
      expect(treeDifference(await listTree(dir), expected)).toBe('');
    } finally {
      healed();
    }
  });

  it('with a flipped bit under a digest that fits is refused, or serves without a crash or a hang', async () => {
    for (let round = 0; round < rounds(10, 2, 0.2); round++) {
      const at = Math.floor((ztoc.length * (round + Math.random())) / rounds(10, 2, 0.2));
      const { reference } = await withZtoc(flipped(ztoc, at, round % 8));
      const fresh = new PeelNode();
      try {
        const dir = await fresh.newDir();
        const mounted = await fresh.peel(['mount', reference, dir]);
        expect(mounted.code, `bit ${round % 8} of byte ${at}: ${mounted.err}`).toBe(0);
        await run('sh', ['-c', `cat ${dir}/bulk/* | sha256sum`], { timeout: 30_000 });
        expect((await run('stat', [dir])).code).toBe(0);
        await fresh.umount(dir);
      } finally {
        await fresh.close();
      }
    }
  }, 120_000);
});

function flipped(bytes: Uint8Array, at: number, bit: number): Uint8Array {
  const copy = Uint8Array.from(bytes);
  copy[at] = (copy[at] ?? 0) ^ (1 << bit);
  return copy;
}
