import { randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Image } from '../../src/image/image.ts';
import { byteStringFromText } from '../../src/util/byte-string.ts';
import { parseDigest } from '../../src/oci/digest.ts';
import { ImageLab, labLayer } from '../support/image-lab.ts';
import { tarOf } from '../support/tar-members.ts';

const spanSize = 64 << 10;
const data = randomBytes(300_000);
const tar = () => tarOf({ path: 'f', data });

async function readsRight(image: Image): Promise<void> {
  const node = (await image.tree()).root.children.get(byteStringFromText('f'));
  expect(node && Buffer.from(await image.read(node, 0, data.length)).equals(data)).toBe(true);
  await image.close();
}

describe('an image without a usable index', () => {
  it.each(['none', 'gzip', 'zstd'] as const)(
    'is downloaded whole, complete at once, and says why: %s',
    async (compression) => {
      const lab = await ImageLab.start();
      const pushed = await lab.push('1', [
        labLayer(tar(), compression),
        labLayer(tarOf()),
        labLayer(tar(), compression),
      ]);
      const node = await lab.node();
      const image = await node.openImage(pushed.reference);
      expect(image.layers().map(({ serving }) => serving)).toEqual(['complete', 'complete', 'complete']);
      expect(image.layers()[0]?.reason).toMatch(/no index/);
      await readsRight(image);
      lab.front.forget();
      await readsRight(await node.openImage(pushed.byDigest));
      expect(lab.front.requests).toEqual([]);
    },
  );

  it('is refused with --index require', async () => {
    const lab = await ImageLab.start();
    const pushed = await lab.push('1', [labLayer(tar())]);
    const node = await lab.node();
    await expect(node.openImage(pushed.reference, { index: 'require' })).rejects.toMatchObject({
      code: 'ERR_IMAGE_INDEX',
      message: expect.stringContaining(pushed.reference),
    });
    await readsRight(await node.openImage(pushed.reference));
    await expect(node.openImage(pushed.reference, { index: 'require' })).rejects.toMatchObject({
      code: 'ERR_IMAGE_INDEX',
    });
  });

  it('is lazy as soon as somebody has pushed an index, though there was none before', async () => {
    const lab = await ImageLab.start();
    const pushed = await lab.push('1', [labLayer(tar())]);
    const node = await lab.node();
    await (await node.openImage(pushed.reference)).close();
    await node.removeCached('all');
    await lab.pushIndex(pushed, { spanSize });
    const image = await node.openImage(pushed.reference);
    expect(image.layers()[0]).toMatchObject({ serving: 'lazy', index: { format: 'soci-v1' } });
    await readsRight(image);
  });

  it('is downloaded whole with --index never though it has one', async () => {
    const lab = await ImageLab.start();
    const pushed = await lab.push('1', [labLayer(tar())]);
    await lab.pushIndex(pushed, { spanSize });
    const image = await (await lab.node()).openImage(pushed.reference, { index: 'never' });
    expect(image.layers()[0]).toMatchObject({
      serving: 'complete',
      index: undefined,
      reason: expect.stringContaining('never'),
    });
    await readsRight(image);
  });
});

describe('an image that was lazy before', () => {
  it('is made anew with --index never, unless somebody uses it', async () => {
    const lab = await ImageLab.start();
    const pushed = await lab.push('1', [labLayer(tar())]);
    await lab.pushIndex(pushed, { spanSize });
    const node = await lab.node();
    const lazy = await node.openImage(pushed.reference);
    const used = await node.openImage(pushed.reference, { index: 'never' });
    expect(used.layers()[0]?.serving).toBe('lazy');
    expect(used.warnings).toEqual([expect.stringMatching(/in use/)]);
    await used.close();
    await lazy.close();
    const image = await node.openImage(pushed.reference, { index: 'never' });
    expect(image.layers()[0]).toMatchObject({ serving: 'complete', index: undefined });
    expect(image.warnings).toEqual([]);
    await readsRight(image);
  });

  it('has nothing left of a download that was killed', async () => {
    const lab = await ImageLab.start();
    const pushed = await lab.push('1', [labLayer(tar())]);
    await lab.pushIndex(pushed, { spanSize });
    const node = await lab.node();
    const dir = join(node.paths.root, 'blobs', ...(pushed.layers[0]?.descriptor.digest.split(':') ?? []));
    mkdirSync(dir, { recursive: true });
    writeFileSync(join(dir, 'data.tmp'), 'x');
    await readsRight(await node.openImage(pushed.reference));
    expect(readdirSync(dir).sort()).toEqual(['data', 'index', 'lock', 'present', 'sums']);
  });

  it('is cleared away with what a killed removal left', async () => {
    const node = await (await ImageLab.start()).node();
    const blobs = join(node.paths.root, 'blobs/sha256');
    const [dead, alive] = ['4194305', String(process.pid)].map((pid) => `${'0'.repeat(64)}.gone-${pid}-0`);
    for (const name of [dead, alive]) mkdirSync(join(blobs, name ?? '', 'data'), { recursive: true });
    await node.pruneCache(0);
    expect(readdirSync(blobs)).toEqual([alive]);
  });

  it('takes the index that is named in place of another', async () => {
    const lab = await ImageLab.start();
    const pushed = await lab.push('1', [labLayer(tar())]);
    const first = await lab.pushIndex(pushed, { spanSize });
    const second = await lab.pushIndex(pushed, { spanSize: 2 * spanSize });
    const node = await lab.node();
    for (const { manifest } of [first, second, second, first]) {
      const index = manifest.descriptor.digest;
      const image = await node.openImage(pushed.reference, { index });
      expect(image.layers()[0]).toMatchObject({ serving: 'lazy', index: { digest: index } });
      const file = (await image.tree()).root.children.get(byteStringFromText('f'));
      expect(file && (await image.read(file, 100_000, 10))).toEqual(data.subarray(100_000, 100_010));
      await image.close();
    }
  });
});

describe('an index that is wrong', () => {
  it.each([
    ['truncated', (ztoc: Uint8Array) => ztoc.subarray(0, ztoc.length - 100)],
    ['garbage', () => randomBytes(500)],
    ['for another layer', () => 'other' as const],
  ])('is said once and the layer downloaded whole: %s', async (_, change) => {
    const lab = await ImageLab.start();
    const other = await lab.push('other', [labLayer(tarOf({ path: 'g', data: randomBytes(500_000) }))]);
    const otherIndex = await lab.pushIndex(other, { spanSize });
    const pushed = await lab.push('1', [labLayer(tar())]);
    await lab.pushIndex(pushed, {
      spanSize,
      change: (ztoc) => {
        const changed = change(ztoc);
        return changed === 'other' ? (otherIndex.blobs.at(-1)?.bytes ?? ztoc) : changed;
      },
    });
    const image = await (await lab.node()).openImage(pushed.reference);
    expect(image.warnings).toEqual([expect.stringMatching(/zTOC/)]);
    expect(image.layers()[0]?.serving).toBe('complete');
    await readsRight(image);
  });

  it('is said when it is named but not there, or for another image', async () => {
    const lab = await ImageLab.start();
    const other = await lab.push('other', [labLayer(tarOf({ path: 'g', data: randomBytes(500_000) }))]);
    const files = await lab.pushIndex(other, { spanSize });
    const pushed = await lab.push('1', [labLayer(tar())]);
    const node = await lab.node();
    const missing = parseDigest(`sha256:${'0'.repeat(64)}`);
    for (const [index, why] of [
      [missing, /not in|unknown/],
      [files.manifest.descriptor.digest, /another image/],
    ] as const) {
      await expect(node.openImage(pushed.reference, { index })).rejects.toMatchObject({
        code: 'ERR_IMAGE_INDEX',
        message: expect.stringMatching(why),
      });
    }
  });

  it('that lies about the bytes fails the read, and the layer is made anew the next time', async () => {
    const lab = await ImageLab.start();
    const layer = labLayer(tar());
    const liar = labLayer(tarOf({ path: 'f', data: randomBytes(300_000) }));
    const pushed = await lab.push('1', [layer]);
    const lie = await lab.push('lie', [liar]);
    const files = await lab.pushIndex(lie, { spanSize });
    await lab.pushIndex(pushed, { spanSize, change: () => files.blobs.at(-1)?.bytes ?? new Uint8Array() });
    const node = await lab.node();
    const image = await node.openImage(pushed.reference);
    const file = (await image.tree()).root.children.get(byteStringFromText('f'));
    if (file === undefined) throw new Error('no f');
    await expect(image.read(file, 0, 10)).rejects.toMatchObject({
      code: 'ERR_IMAGE_READ',
      message: expect.stringContaining('index'),
    });
    await image.close();
    const again = await node.openImage(pushed.reference);
    expect(again.layers()[0]).toMatchObject({
      serving: 'complete',
      reason: expect.stringContaining('no trusted index'),
    });
    await readsRight(again);
  });
});

describe('an index made here', () => {
  it('makes the image lazy on this node, and on others once it is pushed', async () => {
    const lab = await ImageLab.start();
    const pushed = await lab.push('1', [labLayer(tar(), 'gzip'), labLayer(tarOf({ path: 'tiny', data: 'x' }), 'gzip')]);
    const maker = await lab.node();
    const wish = { format: 'soci', spanSize, minLayerSize: 1000 } as const;
    const [report] = await maker.indexes.create(pushed.reference, wish);
    expect(report?.layers).toMatchObject([
      { peel: undefined, soci: { skipped: undefined } },
      { peel: undefined, soci: { skipped: expect.stringContaining('smaller') } },
    ]);
    const index = report?.indexes.soci;
    const here = await maker.openImage(pushed.reference);
    expect(here.layers().map(({ serving }) => serving)).toEqual(['lazy', 'complete']);
    await readsRight(here);
    const elsewhere = await lab.node();
    const before = await elsewhere.openImage(pushed.reference, { index: 'require' }).catch((error: unknown) => error);
    expect(before).toMatchObject({ code: 'ERR_IMAGE_INDEX' });
    await maker.indexes.push(pushed.reference);
    expect(await maker.indexes.listRemote(pushed.reference)).toMatchObject([{ index, format: 'soci-v1' }]);
    const after = await elsewhere.openImage(pushed.reference, { index: 'require' });
    expect(after.layers()[0]).toMatchObject({ serving: 'lazy', index: { digest: index, format: 'soci-v1' } });
    await readsRight(after);
    expect(await maker.indexes.show(pushed.reference)).toMatchObject([{ index, layers: [{ entries: 1 }] }]);
    await maker.indexes.remove(pushed.reference);
    expect(maker.indexes.list()).toEqual([]);
  });
});
