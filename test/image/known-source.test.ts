// Blobs that go with a layer, fetched from wherever an image is known to have the layer.
import { randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { KnownSource } from '../../src/image/known-source.ts';
import { ImageLab, labLayer, sha256 } from '../support/image-lab.ts';
import { tarOf } from '../support/tar-members.ts';

describe('the source of a layer that several images have', () => {
  it('gives its windows from the one that has them', async () => {
    const lab = await ImageLab.start();
    const layer = labLayer(tarOf({ path: 'f', data: randomBytes(100) }));
    const images = [await lab.push('1', [layer], 'lab/one'), await lab.push('1', [layer], 'lab/two')];
    const windows = randomBytes(5000);
    const descriptor = { mediaType: 'a/b', digest: sha256(windows), size: windows.length };
    const { state, openOrigin } = (await lab.node()).imageDeps;
    for (const { reference } of images) state.layerSources.put([layer.descriptor.digest], reference);
    const sources = state.layerSources;
    const source = new KnownSource({ sources, openOrigin }, layer.descriptor).blob(descriptor);
    const read = async () => {
      const { body } = await source.readRange(1000, 1100, { signal: AbortSignal.timeout(10_000) });
      return Buffer.concat((await body.toArray()) as Buffer[]);
    };
    await expect(read()).rejects.toMatchObject({ code: 'BLOB_UNKNOWN' });
    await lab.registry.pushBlob('lab/one', descriptor, () => Readable.from([windows]));
    expect(await read()).toEqual(windows.subarray(1000, 1100));
    lab.front.forget();
    expect(await read()).toEqual(windows.subarray(1000, 1100));
    // The one that gave it last is asked first.
    expect(lab.front.requests.map(({ path }) => path)).toEqual([`/v2/lab/one/blobs/${descriptor.digest}`]);
  });

  it('gives its windows from the repository that had them, when no other image is known to have the layer', async () => {
    const lab = await ImageLab.start();
    const layer = labLayer(tarOf({ path: 'f', data: randomBytes(100) }));
    const image = await lab.push('1', [layer], 'lab/two');
    const windows = randomBytes(500);
    const descriptor = { mediaType: 'a/b', digest: sha256(windows), size: windows.length };
    await lab.registry.pushBlob('lab/one', descriptor, () => Readable.from([windows]));
    const { state, openOrigin } = (await lab.node()).imageDeps;
    const { layerSources: sources } = state;
    sources.put([layer.descriptor.digest], image.reference);
    const known = new KnownSource({ sources, openOrigin }, layer.descriptor);
    await expect(known.blob(descriptor).readRange(0, 500)).rejects.toMatchObject({ code: 'BLOB_UNKNOWN' });
    const { body } = await known.blob(descriptor, `${lab.front.host}/lab/one`).readRange(0, 500);
    expect(Buffer.concat((await body.toArray()) as Buffer[])).toEqual(windows);
  });
});
