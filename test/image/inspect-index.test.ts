// What an image's inspection says of its indexes: which is taken, why, and for which layers; nothing of the layers is fetched for that.
import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import type { Digest } from '../../src/oci/digest.ts';
import { ImageLab, labLayer, sha256 } from '../support/image-lab.ts';
import { pushPeelIndex } from '../support/peel-index.ts';
import { tarOf } from '../support/tar-members.ts';

describe('an inspected image', () => {
  it('says which index is taken and why, and what each layer is served by', async () => {
    const lab = await ImageLab.start();
    const tars = [1000, 2000].map((size) => tarOf({ path: 'f', data: randomBytes(size) }));
    const image = await lab.push('1', [
      labLayer(tars[0] as Buffer, 'zstd'),
      labLayer(tars[1] as Buffer),
      labLayer(tarOf({ path: 'left out', data: '' })),
    ]);
    const [zstd, plain] = image.layers.map(({ descriptor }) => descriptor.digest) as [Digest, Digest];
    const tables = [zstd, plain].map((layer) => ({ layer, table: randomBytes(100), windows: randomBytes(10) }));
    await pushPeelIndex(lab, image, tables, { created: '2024-01-01T00:00:00Z' });
    const digest = await pushPeelIndex(lab, image, tables, { created: '2025-01-01T00:00:00Z' });
    await lab.pushIndex({ ...image, layers: image.layers.slice(1) }, { spanSize: 512 });
    const node = await lab.node();
    const inspected = await node.inspectImage(image.reference);
    const index = { format: 'peel', digest, source: `referrer in ${lab.front.host}/lab/app, newest of 2` };
    expect(inspected).toMatchObject({ index, indexReason: '', warnings: [] });
    const served = tables.map(({ table }) => ({ serving: 'lazy', reason: `peel table ${sha256(table)}`, index }));
    expect(inspected.layers).toMatchObject([
      ...served,
      { serving: 'whole', index: undefined, reason: expect.stringContaining(`index ${digest} leaves it out`) },
    ]);
    expect(lab.front.seen('/referrers/')).toHaveLength(1);
    // Neither a table nor a layer; the config and no other blob.
    expect(lab.front.seen('/blobs/')).toHaveLength(1);
    await lab.front.close();
    expect(await node.inspectImage(image.reference)).toMatchObject({ index });
  });

  it('says why there is none', async () => {
    const lab = await ImageLab.start();
    const image = await lab.push('1', [labLayer(tarOf({ path: 'f', data: randomBytes(100) }))]);
    const digest = await pushPeelIndex(lab, image, [{ layer: sha256(randomBytes(1)), table: randomBytes(10) }]);
    const node = await lab.node();
    const index = undefined;
    expect(await node.inspectImage(image.reference)).toMatchObject({
      index,
      indexReason: `no index: none of the 1 found in ${lab.front.host}/lab/app can be used`,
      warnings: [expect.stringContaining(`the index ${digest} (referrer in ${lab.front.host}/lab/app) is ignored`)],
    });
    expect(await node.inspectImage(image.reference, { index: 'never' })).toMatchObject({
      index,
      indexReason: 'indexes are switched off (--index never)',
    });
    await (await node.openImage(image.reference)).close();
    expect(await node.inspectImage(image.reference)).toMatchObject({
      index,
      indexReason: expect.stringMatching(/^not looked for: /),
    });
  });

  it('whose layers are open is not asked about', async () => {
    const lab = await ImageLab.start();
    const image = await lab.push('1', [labLayer(tarOf({ path: 'f', data: randomBytes(9000) }))]);
    const { manifest } = await lab.pushIndex(image, { spanSize: 4096 });
    const node = await lab.node();
    const opened = await node.openImage(image.reference);
    lab.front.forget();
    expect(await node.inspectImage(image.byDigest)).toMatchObject({
      index: { format: 'soci-v1', digest: manifest.descriptor.digest },
      layers: [{ serving: 'lazy' }],
    });
    expect(lab.front.requests).toEqual([]);
    await opened.close();
  });
});
