// Indexes of both kinds, from one reading of an image: made, kept, told of, pushed and forgotten.
import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { readPeelIndex } from '../../src/index/peel-index-reader.ts';
import { readPeelTable } from '../../src/index/peel-table-reader.ts';
import type { Node } from '../../src/daemon/node.ts';
import type { Digest } from '../../src/oci/digest.ts';
import { sha256, zstdFrames } from '../index/layers.ts';
import { ImageLab, labLayer } from '../support/image-lab.ts';
import type { LabLayer } from '../support/image-lab.ts';
import { tarOf } from '../support/tar-members.ts';

const peelSpanSize = 64 << 10;
const small = { peelSpanSize, spanSize: 256 << 10, minLayerSize: 1000 };
const words = Buffer.from(Array.from({ length: 50_000 }, (_, i) => `word ${i % 1009} ${i}\n`).join(''));
const gzip = labLayer(tarOf({ path: 'words', data: words }, { path: 'noise', data: randomBytes(300_000) }), 'gzip');
const plain = labLayer(tarOf({ path: 'plain', data: randomBytes(300_000) }));
const tiny = labLayer(tarOf({ path: 'tiny', data: 'x' }), 'gzip');
const single = labLayer(tarOf({ path: 'single', data: randomBytes(300_000) }), 'zstd');
const framed = inFrames(tarOf({ path: 'framed', data: randomBytes(300_000) }));

function inFrames(tar: Buffer): LabLayer {
  const { descriptor, ...rest } = labLayer(tar, 'zstd');
  const blob = zstdFrames(tar, 40_000);
  return { ...rest, blob, descriptor: { ...descriptor, digest: sha256(blob), size: blob.length } };
}

async function bytesOf(node: Node, digest: Digest | undefined): Promise<Uint8Array> {
  const content = digest === undefined ? undefined : await node.imageDeps.content.local(digest);
  if (content === undefined) throw new Error(`${digest} is not here`);
  return content.bytes;
}

describe('indexes of both kinds', () => {
  it('are made by one reading, the same on every node', async () => {
    const lab = await ImageLab.start();
    const image = await lab.push('1', [gzip, plain, tiny, single, framed, gzip]);
    const [a, b] = [await lab.node(), await lab.node()];
    const [report] = await a.indexes.create(image.reference, small);
    for (const { descriptor } of [gzip, plain, single, framed]) {
      const gets = lab.front.requests.filter(
        ({ method, path }) => method === 'GET' && path.includes(descriptor.digest),
      );
      expect(gets).toHaveLength(1);
    }
    const smaller = { skipped: 'smaller than 1000 B' };
    const noZtoc = { ztoc: undefined, skipped: 'a zTOC cannot describe zstd layers' };
    expect(report?.layers).toMatchObject([
      { layer: gzip.descriptor.digest, peel: { skipped: undefined }, soci: { skipped: undefined } },
      {
        layer: plain.descriptor.digest,
        peel: { skipped: undefined, windows: undefined },
        soci: { skipped: undefined },
      },
      { layer: tiny.descriptor.digest, peel: smaller, soci: smaller },
      { peel: { table: undefined, skipped: expect.stringContaining('single zstd frame') }, soci: noZtoc },
      { layer: framed.descriptor.digest, peel: { skipped: undefined, windows: undefined }, soci: noZtoc },
    ]);
    expect(report?.layers[0]?.peel?.windowsSize).toBeGreaterThan(0);
    const index = readPeelIndex(await bytesOf(a, report?.indexes.peel));
    expect(index.subject.digest).toBe(image.digest);
    expect(index.layers.map(({ layer, spanSize }) => [layer, spanSize])).toEqual(
      [gzip, plain, framed].map(({ descriptor }) => [descriptor.digest, peelSpanSize]),
    );
    for (const { layer, table, windows } of index.layers) {
      const read = readPeelTable(await bytesOf(a, table.digest));
      expect([read.layer, read.windows.size]).toEqual([layer, windows?.size ?? 0]);
      if (windows) expect((await bytesOf(a, windows.digest)).length).toBe(windows.size);
    }
    const [again] = await b.indexes.create(image.reference, small);
    expect(again).toEqual(report);
  });

  it('are told of, pushed to where others list them, and forgotten with all they kept', async () => {
    const lab = await ImageLab.start();
    const image = await lab.push('1', [gzip, plain]);
    const node = await lab.node();
    const [report] = await node.indexes.create(image.reference, small);
    const { peel, soci } = report?.indexes ?? {};
    const both = [
      { image: image.digest, index: peel, format: 'peel' },
      { image: image.digest, index: soci, format: 'soci-v1' },
    ];
    expect(new Set(node.indexes.list().map(({ digest }) => digest))).toEqual(new Set([peel, soci]));
    expect(await node.indexes.listRemote(image.reference)).toEqual([]);
    expect(await node.indexes.push(image.reference)).toEqual(both);
    expect(await node.indexes.listRemote(image.reference)).toMatchObject(both);
    const shown = await node.indexes.show(image.reference);
    expect(new Map(shown.map(({ index, format }) => [format, index]))).toEqual(
      new Map([
        ['peel', peel],
        ['soci-v1', soci],
      ]),
    );
    const [layer] = shown.find(({ format }) => format === 'peel')?.layers ?? [];
    const made = report?.layers[0]?.peel;
    expect(layer).toMatchObject({
      table: made?.table,
      size: made?.tableSize,
      windowsSize: made?.windowsSize,
      entries: 2,
    });
    expect(layer?.spans).toBeGreaterThan(5);
    expect(await node.indexes.show(peel ?? '')).toEqual(shown.filter(({ format }) => format === 'peel'));
    expect(await node.indexes.remove(peel ?? '')).toEqual([peel]);
    expect(node.indexes.list()).toMatchObject([{ digest: soci }]);
    for (const gone of [peel, made?.table, made?.windows])
      expect(await node.imageDeps.content.local(gone as Digest)).toBeUndefined();
    await bytesOf(node, report?.layers[0]?.soci?.ztoc);
    expect(await node.indexes.push(image.reference)).toEqual(both.slice(1));
  });

  it('keep what another image has too', async () => {
    const lab = await ImageLab.start();
    const [first, second] = [await lab.push('1', [gzip, plain]), await lab.push('2', [gzip, framed])];
    const node = await lab.node();
    const [one] = await node.indexes.create(first.reference, small);
    await node.indexes.create(second.reference, small);
    await node.indexes.remove(first.reference);
    const [shared, own] = one?.layers ?? [];
    for (const kept of [shared?.peel?.table, shared?.peel?.windows, shared?.soci?.ztoc]) await bytesOf(node, kept);
    expect(await node.imageDeps.content.local(own?.peel?.table as Digest)).toBeUndefined();
    expect(await node.indexes.push(second.reference)).toHaveLength(2);
  });

  it('are made singly when one is asked for', async () => {
    const lab = await ImageLab.start();
    const image = await lab.push('1', [gzip, framed]);
    const node = await lab.node();
    for (const [format, other] of [
      ['peel', 'soci'],
      ['soci', 'peel'],
    ] as const) {
      const [report] = await node.indexes.create(image.reference, { ...small, format });
      expect(report?.indexes).toMatchObject({ [format]: expect.any(String), [other]: undefined });
      expect(report?.layers.every((layer) => layer[other] === undefined && layer[format] !== undefined)).toBe(true);
      await node.indexes.remove(image.reference);
    }
  });

  it('leave out small layers, a peel index fewer of them', async () => {
    const lab = await ImageLab.start();
    const medium = labLayer(tarOf({ path: 'medium', data: randomBytes(1 << 20) }));
    const image = await lab.push('1', [gzip, medium]);
    const [report] = await (await lab.node()).indexes.create(image.reference);
    expect(report?.indexes).toMatchObject({ peel: expect.any(String), soci: undefined });
    expect(report?.layers).toMatchObject([
      { peel: { skipped: 'smaller than 1.0 MiB' }, soci: { skipped: 'smaller than 10 MiB' } },
      { peel: { skipped: undefined }, soci: { skipped: 'smaller than 10 MiB' } },
    ]);
  });

  it('are refused with every reason when there is nothing for any', async () => {
    const lab = await ImageLab.start();
    const image = await lab.push('1', [single]);
    const creating = (await lab.node()).indexes.create(image.reference, small);
    await expect(creating).rejects.toMatchObject({
      code: 'ERR_IMAGE_INDEX',
      message: expect.stringMatching(/single zstd frame.*; a zTOC cannot describe zstd/),
    });
  });

  it('are not pushed by a node that only found them', async () => {
    const lab = await ImageLab.start();
    const image = await lab.push('1', [plain]);
    const [maker, other] = [await lab.node(), await lab.node()];
    await maker.indexes.create(image.reference, { ...small, format: 'soci', push: true });
    await (await other.openImage(image.reference, { index: 'require' })).close();
    await expect(other.indexes.push(image.reference)).rejects.toMatchObject({
      code: 'ERR_IMAGE_INDEX',
      message: expect.stringContaining('elsewhere'),
    });
    await other.indexes.create(image.reference, { ...small, format: 'peel' });
    expect(await other.indexes.push(image.reference)).toMatchObject([{ format: 'peel' }]);
  });
});
