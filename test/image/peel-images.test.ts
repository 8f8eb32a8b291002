// Images that are opened by a peel index: what is asked for before the first byte, and what happens when the index is not what it should be.
import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import type { Node } from '../../src/daemon/node.ts';
import type { Image } from '../../src/image/image.ts';
import { allFormats } from '../../src/image/index-formats.ts';
import { sourceOf } from '../../src/image/origin-blob.ts';
import { parseReference } from '../../src/oci/reference.ts';
import { byteStringFromText } from '../../src/util/byte-string.ts';
import { Semaphore } from '../../src/util/semaphore.ts';
import { ImageLab, labLayer, sha256 } from '../support/image-lab.ts';
import type { LabImage, LabLayer } from '../support/image-lab.ts';
import { pushPeelIndex } from '../support/peel-index.ts';
import type { PeelLayerFiles, PushPeelOptions } from '../support/peel-index.ts';
import { peelTableOf } from '../support/peel-table.ts';
import { tarOf } from '../support/tar-members.ts';

const spanSize = 32 << 10;
/** Compresses to a third, and reaches back. */
const text = (size: number): Buffer =>
  Buffer.from(
    randomBytes(size / 8)
      .toString('hex')
      .repeat(4),
  );
const datas = [text(400_000), text(300_000)];
const gzipped = () => datas.map((data, i) => labLayer(tarOf({ path: `f${i}`, data }), 'gzip'));

async function pushed(lab: ImageLab): Promise<{ image: LabImage; files: PeelLayerFiles[] }> {
  const image = await lab.push('1', gzipped());
  const files = [];
  for (const layer of image.layers) files.push(await peelTableOf(layer, spanSize));
  return { image, files };
}

async function expectRight(image: Image): Promise<void> {
  for (const [i, data] of datas.entries()) {
    const node = (await image.tree()).root.children.get(byteStringFromText(`f${i}`));
    const at = data.length - 1000;
    expect(node && Buffer.from(await image.read(node, at, 1000)).equals(data.subarray(at))).toBe(true);
    expect(node && Buffer.from(await image.read(node, 0, data.length)).equals(data)).toBe(true);
  }
}

/** Everything of a layer that is open lazily on the node. */
async function fill(node: Node, reference: string, { descriptor, diffId }: LabLayer): Promise<void> {
  const { layers, openOrigin } = node.imageDeps;
  const layer = await layers.openIfReady({
    descriptor,
    diffId,
    source: sourceOf(await openOrigin(parseReference(reference)), descriptor),
    findIndex: async () => ({ index: undefined, reason: '' }),
    slots: new Semaphore(4),
    onWarning: (warning) => expect.unreachable(warning),
  });
  await layer?.fillCache({ signal: AbortSignal.timeout(10_000) });
  await layer?.close();
}

const year = (number: number): PushPeelOptions => ({ created: `${number}-01-01T00:00:00Z` });

describe('an image with a peel index', () => {
  it('is opened by its tables alone, all of them and the questions for the windows at once', async () => {
    const lab = await ImageLab.start();
    const { image, files } = await pushed(lab);
    const digest = await pushPeelIndex(lab, image, files);
    const { front } = lab;
    const blobs = files.flatMap(({ table, windows = Buffer.alloc(0) }) => [sha256(table), sha256(windows)]);
    // None is answered before all are there.
    const held: (() => void)[] = [];
    front.interfere(
      ({ url = '' }) => blobs.some((blob) => url.includes(blob)),
      (_, __, forward) => {
        held.push(() => forward());
        if (held.length === blobs.length) for (const go of held) go();
        if (held.length > blobs.length) forward();
      },
    );
    const opened = await (await lab.node()).openImage(image.reference);
    expect(opened.warnings).toEqual([]);
    expect(opened.layers()).toMatchObject(
      files.map(() => ({ serving: 'lazy', presentBytes: 0, index: { format: 'peel', digest } })),
    );
    const asked = (part: string) => front.seen(part).map(({ method }) => method);
    expect(blobs.map(asked)).toEqual([['GET'], ['HEAD'], ['GET'], ['HEAD']]);
    expect(asked('/referrers/')).toEqual(['GET']);
    expect(asked(digest)).toEqual(['GET']);
    for (const { descriptor } of image.layers) expect(asked(descriptor.digest)).toEqual([]);
    // Besides: the image's tag, its manifest and its config.
    expect(front.requests.length).toBeLessThanOrEqual(blobs.length + 2 + 3);
    await expectRight(opened);
    for (const blob of blobs) expect(asked(blob).filter((method) => method === 'HEAD').length).toBeLessThan(2);
    await opened.close();
  });

  it('is opened by the next one when windows are missing, which is said once', async () => {
    const lab = await ImageLab.start();
    const { image, files } = await pushed(lab);
    const lost = await pushPeelIndex(lab, image, files, { ...year(2026), withoutWindows: true });
    const other = await Promise.all(image.layers.map((layer) => peelTableOf(layer, 2 * spanSize)));
    const good = await pushPeelIndex(lab, image, other, year(2025));
    const node = await lab.node();
    const opened = await node.openImage(image.reference);
    expect(opened.layers()).toMatchObject(
      files.map(() => ({ serving: 'lazy', index: { format: 'peel', digest: good } })),
    );
    expect(opened.warnings).toHaveLength(2);
    for (const [i, { table }] of files.entries()) {
      const said = opened.warnings.filter((warning) => warning.includes(image.layers[i]?.descriptor.digest ?? ''));
      expect(said).toEqual([expect.stringContaining(`peel table ${sha256(table)} cannot be used`)]);
      expect(said[0]).toMatch(new RegExp(`its windows .* are not in .*; the index ${good}.* is tried next`));
    }
    await expectRight(opened);
    expect(await node.inspectImage(image.reference)).toMatchObject({ index: { digest: good } });
    await opened.close();
    expect(lost).not.toBe(good);
  });

  it('is opened by SOCI when its tables are damaged or of other layers', async () => {
    const lab = await ImageLab.start();
    const image = await lab.push('1', [labLayer(tarOf({ path: 'f0', data: datas[0] as Buffer }))]);
    const [layer] = image.layers;
    if (layer === undefined) return;
    const right = await peelTableOf(layer, spanSize);
    const other = await peelTableOf(gzipped()[1] as typeof layer, spanSize);
    const of = layer.descriptor.digest;
    await pushPeelIndex(lab, image, [{ ...right, table: right.table.slice(0, -1) }], year(2026));
    await pushPeelIndex(lab, image, [{ ...other, layer: of }], year(2025));
    const { manifest } = await lab.pushIndex(image, { spanSize });
    const node = await lab.node();
    const opened = await node.openImage(image.reference);
    expect(opened.layers()).toMatchObject([
      { serving: 'lazy', index: { format: 'soci-v1', digest: manifest.descriptor.digest } },
    ]);
    expect(opened.warnings).toEqual([
      expect.stringMatching(/peel table .* cannot be used: .*is tried next$/),
      expect.stringMatching(/peel table .* cannot be used: it is for layer .*\(soci-v1\) is tried next$/),
    ]);
    await opened.close();
    await expect(
      (await lab.node()).openImage(image.reference, {
        index: await pushPeelIndex(lab, image, [{ ...other, layer: of }]),
      }),
    ).rejects.toMatchObject({
      code: 'ERR_IMAGE_LAYER',
    });
  });

  it('shares its layers with an image whose repository has not got the windows', async () => {
    const lab = await ImageLab.start();
    const { image, files } = await pushed(lab);
    await pushPeelIndex(lab, image, files);
    const node = await lab.node();
    await (await node.openImage(image.reference)).close();
    const other = await lab.push('1', image.layers, 'lab/other');
    const opened = await node.openImage(other.reference);
    expect(opened.layers()).toMatchObject(files.map(() => ({ serving: 'lazy', index: { format: 'peel' } })));
    await expectRight(opened);
    await opened.close();
  });

  it('is opened by SOCI on a node where peel indexes are switched off, except for layers that are all there', async () => {
    const lab = await ImageLab.start();
    const layers = datas.map((data, i) => labLayer(tarOf({ path: `f${i}`, data })));
    const image = await lab.push('1', layers);
    const files = [];
    for (const layer of layers) files.push(await peelTableOf(layer, spanSize));
    await pushPeelIndex(lab, image, files);
    await lab.pushIndex(image, { spanSize });
    const root = `${lab.dir}/one-node`;
    const before = await lab.node({ root });
    const opened = await before.openImage(image.reference);
    await opened.close();
    await fill(before, image.reference, layers[0] as LabLayer);
    const after = await lab.node({ root, indexes: { formats: { ...allFormats, peel: false }, choice: 'newest' } });
    const inspected = await after.inspectImage(image.reference);
    const again = await after.openImage(image.reference);
    expect(again.warnings).toEqual([]);
    for (const { layers: served } of [inspected, { layers: again.layers() }])
      expect(served).toMatchObject([
        { serving: 'complete', index: { format: 'peel' } },
        { serving: 'lazy', index: { format: 'soci-v1' } },
      ]);
    await expectRight(again);
    await again.close();
  });

  it('is read from the node that has its windows without the registry having them', async () => {
    const lab = await ImageLab.start();
    const { image, files } = await pushed(lab);
    await pushPeelIndex(lab, image, files, { withoutWindows: true });
    const node = await lab.node();
    for (const { windows = Buffer.alloc(0) } of files)
      await node.imageDeps.content.keep({
        descriptor: { mediaType: 'a/b', digest: sha256(windows), size: windows.length },
        bytes: windows,
      });
    const opened = await node.openImage(image.reference);
    expect(opened.warnings).toEqual([]);
    await expectRight(opened);
    for (const { windows = Buffer.alloc(0) } of files) expect(lab.front.seen(sha256(windows))).toEqual([]);
    await opened.close();
  });
});
