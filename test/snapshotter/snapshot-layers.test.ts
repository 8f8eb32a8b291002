// Labels in, mounted layers out, or a reason: what containerd may say, and what registries may have.
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readImageLabels } from '../../src/snapshotter/image-labels.ts';
import type { SnapshotLayersConfig } from '../../src/snapshotter/snapshot-layers.ts';
import { ImageLab, labLayer, sha256 } from '../support/image-lab.ts';
import type { LabImage } from '../support/image-lab.ts';
import { LayersProcess, wishesOf } from '../support/layers-process.ts';
import type { Wish } from '../support/layers-process.ts';
import { pushPeelIndex } from '../support/peel-index.ts';
import { canMount } from '../support/peel-node.ts';
import { peelTableOf } from '../support/peel-table.ts';
import { run, runOk } from '../support/run.ts';
import { tarOf } from '../support/tar-members.ts';

const spanSize = 64 << 10;
const data = randomBytes(700_000);
const sumOf = async (path: string) => `sha256:${(await runOk('sha256sum', [path])).slice(0, 64)}`;
const lazyLayer = (bytes = data) =>
  labLayer(tarOf({ path: './', type: 'dir', mode: 0o751 }, { path: 'big', data: bytes }));

/** Two layers with a zTOC, and a small gzip one that the index leaves out. */
async function indexed(lab: ImageLab): Promise<LabImage> {
  const small = labLayer(tarOf({ path: 'small', data: 'small' }), 'gzip');
  const image = await lab.push('1', [lazyLayer(), lazyLayer(randomBytes(300_000)), small]);
  await lab.pushIndex({ ...image, layers: image.layers.slice(0, 2) }, { spanSize });
  return image;
}

async function start(lab: ImageLab, config: Partial<SnapshotLayersConfig> = {}): Promise<LayersProcess> {
  return await LayersProcess.start(join(lab.dir, 'root'), config);
}

const first = (image: LabImage, labels?: Readonly<Record<string, string>>) => wishesOf(image, labels)[0] as Wish;

describe.skipIf(!canMount)('an image that containerd names', () => {
  it.each(['kernel', 'native'] as const)(
    'is served layer by layer, lazily where it has an index: %s',
    async (transport) => {
      const lab = await ImageLab.start();
      const image = await indexed(lab);
      const layers = await start(lab, { transport });
      const outcomes = await layers.pull(image);
      expect(outcomes).toMatchObject(
        image.layers.map(({ descriptor }, i) => ({
          kind: 'served',
          slot: i + 1,
          image: image.reference,
          layer: descriptor.digest,
        })),
      );
      expect(await layers.status()).toMatchObject([
        {
          serving: 'lazy',
          transport,
          why: expect.stringMatching(/^zTOC sha256:/),
          presentBytes: 0,
        },
        { serving: 'lazy', transport },
        {
          serving: 'complete',
          transport,
          direct: transport === 'kernel',
          why: expect.stringContaining('leaves it out'),
        },
      ]);
      const [base = '', , small = ''] = await Promise.all([1, 2, 3].map((slot) => layers.directory(slot)));
      expect(lab.front.bytes(image.layers[0]?.descriptor.digest)).toBe(0);
      expect(await sumOf(join(base, 'big'))).toBe(sha256(data));
      expect(await runOk('cat', [join(small, 'small')])).toBe('small');
      expect((await runOk('stat', ['-c', '%a', base])).trim()).toBe('751');
      const { size, inodes } = await layers.usage(1);
      expect(size).toBeGreaterThan(data.length);
      expect(inodes).toBeGreaterThan(3);
    },
  );

  it('comes whole behind what is read, also the layers that nobody has asked for yet', async () => {
    const lab = await ImageLab.start();
    const image = await indexed(lab);
    const layers = await start(lab, { lazily: true });
    expect(await layers.provide(first(image))).toMatchObject({ kind: 'served' });
    const came = () => image.layers.slice(0, 2).map(({ descriptor }) => lab.front.bytes(descriptor.digest));
    const sizes = image.layers.slice(0, 2).map(({ descriptor }) => descriptor.size);
    await expect.poll(came, { timeout: 30_000 }).toEqual(sizes);
    await layers.stop();
  });

  it('may have a layer twice', async () => {
    const lab = await ImageLab.start();
    const [base, twice] = [lazyLayer(), labLayer(tarOf({ path: 'twice', data: 'x' }))];
    const image = await lab.push('1', [base, twice, lazyLayer(randomBytes(10)), twice]);
    await lab.pushIndex(image, { spanSize });
    const layers = await start(lab);
    const slots = (await layers.pull(image)).map((each) => (each.kind === 'served' ? each.slot : each.kind));
    expect(slots).toEqual([1, 2, 3, 2]);
  });

  it('opens its layers side by side, and gives each call its own answer', async () => {
    const lab = await ImageLab.start();
    const image = await lab.push(
      '1',
      Array.from({ length: 8 }, (_, i) => lazyLayer(randomBytes(100_000 + i))),
    );
    await lab.pushIndex(image, { spanSize });
    const layers = await start(lab, { downloadsPerImage: 2 });
    const wishes = wishesOf(image).flatMap((wish, i) => {
      const below = Array.from({ length: i }, () => null);
      return [
        { ...wish, below },
        { ...wish, below },
      ];
    });
    const outcomes = await Promise.all(wishes.map((wish) => layers.provide(wish)));
    expect(outcomes.map((each) => each.layer)).toEqual(
      image.layers.flatMap(({ descriptor }) => [descriptor.digest, descriptor.digest]),
    );
    expect(new Set(outcomes.map((each) => (each.kind === 'served' ? each.slot : each.kind))).size).toBe(8);
  });

  it('may be named by the labels of stargz clients, without a manifest digest and a layer digest', async () => {
    const lab = await ImageLab.start();
    const image = await indexed(lab);
    const layers = await start(lab);
    const { chainId, below } = first(image);
    const labels = { 'containerd.io/snapshot/remote/stargz.reference': image.reference };
    expect(await layers.provide({ chainId, below, labels })).toMatchObject({ kind: 'served' });
    const wrong = {
      ...labels,
      'containerd.io/snapshot/remote/stargz.digest': image.layers[1]?.descriptor.digest ?? '',
    };
    expect(await layers.provide({ chainId, below, labels: wrong })).toMatchObject({ kind: 'deferred', code: 'labels' });
  });
});

describe.skipIf(!canMount)('labels', () => {
  const digest = `sha256:${'0'.repeat(64)}`;
  const cri = 'containerd.io/snapshot/cri';
  it.each<[string, Record<string, string>, RegExp]>([
    ['none', {}, /no label names the image: .*cri.image-ref/],
    ['an empty reference', { [`${cri}.image-ref`]: '' }, /no label names the image/],
    ['garbage for a reference', { [`${cri}.image-ref`]: 'A B\n\u0000' }, /cri.image-ref is not an image reference/],
    ['a long reference', { [`${cri}.image-ref`]: `a/${'b'.repeat(5000)}` }, /cri.image-ref has more than/],
    ['a path on this host', { [`${cri}.image-ref`]: 'oci:/etc:x' }, /cri.image-ref names no image of a registry/],
    [
      'no manifest digest',
      { [`${cri}.image-ref`]: 'a/b', [`${cri}.manifest-digest`]: 'x' },
      /manifest-digest is not a digest: "x"/,
    ],
    [
      'no layer digest',
      { [`${cri}.image-ref`]: 'a/b', [`${cri}.layer-digest`]: 'sha256:' },
      /layer-digest is not a digest/,
    ],
    [
      'no index digest',
      { [`${cri}.image-ref`]: 'a/b', 'containerd.io/snapshot/remote/soci.index.digest': digest.slice(1) },
      /soci.index.digest is not a digest/,
    ],
    [
      'names of an object',
      JSON.parse('{"__proto__":"x","constructor":"y"}') as Record<string, string>,
      /no label names/,
    ],
  ])('that are garbage are refused by name: %s', (_, labels, reason) => {
    expect(readImageLabels(labels)).toEqual({ refusal: expect.stringMatching(reason) });
  });

  it('that are garbage leave the layer to containerd', async () => {
    const lab = await ImageLab.start();
    const layers = await start(lab);
    const labels = { [`${cri}.image-ref`]: 'oci:/etc:x' };
    expect(await layers.provide({ chainId: digest, labels, below: [] })).toMatchObject({
      kind: 'deferred',
      code: 'labels',
      reason: expect.stringContaining('cri.image-ref'),
    });
    expect(lab.front.requests).toEqual([]);
  });

  it('that lie about the layer, the chain or what lies below give no content', async () => {
    const lab = await ImageLab.start();
    const image = await indexed(lab);
    const layers = await start(lab);
    const [bottom, second] = wishesOf(image) as [Wish, Wish];
    const lies: Wish[] = [
      {
        ...bottom,
        labels: {
          ...bottom.labels,
          'containerd.io/snapshot/cri.layer-digest': image.layers[1]?.descriptor.digest ?? '',
        },
      },
      { ...bottom, chainId: `sha256:${'1'.repeat(64)}` },
      { ...bottom, chainId: 'x' },
      { ...bottom, below: [null] },
      second,
    ];
    for (const lie of lies) expect(await layers.provide(lie)).toMatchObject({ kind: 'deferred', code: 'labels' });
    expect(await layers.status()).toEqual([]);
  });
});

describe.skipIf(!canMount)('an image with peel indexes', () => {
  it('is served by the first that can be used, and by none of them where they are switched off', async () => {
    const lab = await ImageLab.start();
    const image = await lab.push('1', [lazyLayer()]);
    const [layer] = image.layers;
    if (layer === undefined) return;
    const soci = await lab.pushIndex(image, { spanSize });
    const right = await peelTableOf(layer, spanSize);
    const damaged = { ...right, table: right.table.slice(1) };
    const bad = await pushPeelIndex(lab, image, [damaged], { created: '2026-01-01T00:00:00Z' });
    const good = await pushPeelIndex(lab, image, [right], { created: '2025-01-01T00:00:00Z' });
    const layers = await start(lab);
    expect(await layers.provide(first(image))).toMatchObject({ kind: 'served' });
    expect(await layers.status()).toMatchObject([
      { serving: 'lazy', presentBytes: 0, why: `peel table ${sha256(right.table)}` },
    ]);
    expect(await sumOf(join(await layers.directory(1), 'big'))).toBe(sha256(data));
    expect([bad, good].map((digest) => lab.front.seen(digest).length)).toEqual([1, 1]);
    expect(lab.front.seen(soci.manifest.descriptor.digest)).toEqual([]);
    await layers.stop();
    const off = await LayersProcess.start(join(lab.dir, 'other'), {
      formats: { peel: false, soci_v1: true, soci_v2: true },
    });
    expect(await off.provide(first(image))).toMatchObject({ kind: 'served' });
    expect(await off.status()).toMatchObject([{ serving: 'lazy', why: expect.stringMatching(/^zTOC /) }]);
  });
});

describe.skipIf(!canMount)('a layer is left to containerd', () => {
  it('when serving is switched off', async () => {
    const lab = await ImageLab.start();
    const image = await indexed(lab);
    const layers = await start(lab, { mode: 'defer' });
    expect(await layers.provide(first(image))).toMatchObject({ code: 'mode' });
    expect(lab.front.requests).toEqual([]);
  });

  it('when every format is switched off, unless its index is named', async () => {
    const lab = await ImageLab.start();
    const image = await lab.push('1', [lazyLayer()]);
    const { manifest } = await lab.pushIndex(image, { spanSize });
    const layers = await start(lab, { formats: { peel: false, soci_v1: false, soci_v2: false } });
    expect(await layers.provide(first(image))).toMatchObject({
      code: 'formats',
      reason: expect.stringContaining('index.formats'),
    });
    const named = { 'containerd.io/snapshot/remote/soci.index.digest': manifest.descriptor.digest };
    expect(await layers.provide(first(image, named))).toMatchObject({ kind: 'served' });
  });

  it('when the format of its index is switched off, also when an earlier pull used it', async () => {
    const lab = await ImageLab.start();
    const image = await lab.push('1', [lazyLayer()]);
    await lab.pushIndex(image, { spanSize });
    const before = await start(lab);
    expect(await before.provide(first(image))).toMatchObject({ kind: 'served' });
    await before.stop();
    const layers = await start(lab, { formats: { peel: false, soci_v1: false, soci_v2: true } });
    expect(await layers.provide(first(image))).toMatchObject({
      code: 'no_index',
      reason: expect.stringContaining('peel and SOCI v1 are switched off'),
    });
  });

  it('when the image has no index, until somebody pushes one', async () => {
    const lab = await ImageLab.start();
    const image = await lab.push('1', [lazyLayer(), lazyLayer(randomBytes(200_000))]);
    const layers = await start(lab);
    expect(await layers.pull(image)).toMatchObject([
      { code: 'no_index', reason: expect.stringContaining('has none for this image') },
      { code: 'no_index' },
    ]);
    // One question for the whole pull.
    expect(lab.front.seen('/referrers/')).toHaveLength(1);
    await lab.pushIndex(image, { spanSize });
    expect(await layers.pull(image)).toMatchObject([{ kind: 'served' }, { kind: 'served' }]);
  });

  it('when its index leaves it out and it is above the limit, and its neighbours are not', async () => {
    const lab = await ImageLab.start();
    const image = await indexed(lab);
    const layers = await start(lab, { wholeLayerLimit: 10 });
    expect(await layers.pull(image)).toMatchObject([
      { kind: 'served' },
      { kind: 'served' },
      { code: 'no_index', reason: expect.stringMatching(/leaves it out.*whole_layer_limit/) },
    ]);
  });

  it('when its zTOC is damaged and it is above the limit; below it is downloaded whole', async () => {
    const lab = await ImageLab.start();
    const image = await lab.push('1', [lazyLayer()]);
    await lab.pushIndex(image, { spanSize, change: () => Buffer.from('no zTOC') });
    const layers = await start(lab, { wholeLayerLimit: 10 });
    expect(await layers.provide(first(image))).toMatchObject({
      code: 'no_index',
      reason: expect.stringContaining('cannot be used'),
    });
    await layers.stop();
    const generous = await start(lab);
    expect(await generous.provide(first(image))).toMatchObject({ kind: 'served' });
    expect(await generous.status()).toMatchObject([{ serving: 'complete' }]);
  });

  it('when it cannot stand by itself, and the one above it is served', async () => {
    const lab = await ImageLab.start();
    const linked = labLayer(tarOf({ path: 'again', type: 'hardlink', link: 'big' }));
    const image = await lab.push('1', [lazyLayer(), linked, lazyLayer(randomBytes(1000))]);
    await lab.pushIndex(image, { spanSize });
    const layers = await start(lab);
    expect(await layers.pull(image)).toMatchObject([
      { kind: 'served', slot: 1 },
      { code: 'layer', reason: expect.stringContaining('no tree of its own') },
      { kind: 'served', slot: 2 },
    ]);
    expect(await layers.call('rootOf', 1)).toMatchObject({ mode: 0o751, uid: 0, gid: 0 });
  });

  it('when the registry fails, without remembering it', async () => {
    const lab = await ImageLab.start();
    const image = await indexed(lab);
    const layers = await start(lab);
    const heal = lab.front.interfere(
      ({ url = '' }) => !url.startsWith('/v2/?'),
      (_, response) => void response.writeHead(403).end(),
    );
    expect(await layers.provide(first(image))).toMatchObject({
      code: 'registry',
      reason: expect.stringContaining('denied'),
    });
    heal();
    expect(await layers.provide(first(image))).toMatchObject({ kind: 'served' });
  });

  it('and the others go on when one of them cannot be had', async () => {
    const lab = await ImageLab.start();
    const image = await indexed(lab);
    const [, , small] = image.layers;
    lab.front.interfere(
      ({ url = '' }) => url.includes(small?.descriptor.digest ?? '-'),
      (_, response) => void response.writeHead(404).end(),
    );
    const layers = await start(lab);
    expect(await layers.pull(image)).toMatchObject([{ kind: 'served' }, { kind: 'served' }, { code: 'registry' }]);
  });

  it('when its caller loses patience, and the work goes on for the next call', async () => {
    const lab = await ImageLab.start();
    const image = await lab.push('1', [lazyLayer(), labLayer(tarOf({ path: 'small', data: 'small' }))]);
    await lab.pushIndex({ ...image, layers: image.layers.slice(0, 1) }, { spanSize });
    const [, small] = image.layers;
    let release = () => {};
    lab.front.interfere(
      ({ url = '' }) => url.includes(small?.descriptor.digest ?? '-'),
      (_, _response, forward) => (release = forward),
    );
    const layers = await start(lab);
    const [bottom, top] = wishesOf(image) as [Wish, Wish];
    await layers.provide(bottom);
    await expect(layers.provide({ ...top, below: [1], timeout: 300 })).rejects.toThrow(/timeout/i);
    release();
    lab.front.forget();
    expect(await layers.provide({ ...top, below: [1] })).toMatchObject({ kind: 'served' });
    expect(lab.front.seen(small?.descriptor.digest)).toEqual([]);
  });
});

describe.skipIf(!canMount)('a layer of two repositories', () => {
  it.each(['the older', 'the newer'])('is read from the other when %s refuses', async (which) => {
    const lab = await ImageLab.start();
    const shared = lazyLayer();
    const images = [
      await lab.push('1', [shared], 'a/app'),
      await lab.push('1', [shared, lazyLayer(randomBytes(10))], 'b/app'),
    ];
    for (const [i, image] of images.entries())
      await lab.pushIndex(image, { spanSize, repository: i === 0 ? 'a/app' : 'b/app' });
    const layers = await start(lab);
    for (const image of images) expect(await layers.provide(first(image))).toMatchObject({ kind: 'served', slot: 1 });
    const refusing = which === 'the older' ? '/v2/a/app/' : '/v2/b/app/';
    lab.front.interfere(
      ({ url = '' }) => url.startsWith(refusing),
      (_, response) => void response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end(),
    );
    expect(await sumOf(join(await layers.directory(1), 'big'))).toBe(sha256(data));
    // Once it refused it is not asked first any more.
    expect(lab.front.seen(refusing).filter(({ status }) => status === 401).length).toBeLessThan(7);
  });

  it('fails with a reason when both refuse', async () => {
    const lab = await ImageLab.start();
    const image = await lab.push('1', [lazyLayer()]);
    await lab.pushIndex(image, { spanSize });
    const layers = await start(lab);
    expect(await layers.provide(first(image))).toMatchObject({ kind: 'served' });
    lab.front.interfere(
      () => true,
      (_, response) => void response.writeHead(403).end(),
    );
    expect((await run('cat', [join(await layers.directory(1), 'big')])).err).toContain('Input/output error');
    expect(await layers.status()).toMatchObject([{ serving: 'lazy', lastError: expect.stringContaining('403') }]);
  });
});

describe.skipIf(!canMount)('a layer that is not what its image says', () => {
  it('is not read any more once that is known, and the status says so', async () => {
    const lab = await ImageLab.start();
    const liar = { ...lazyLayer(), diffId: sha256(Buffer.from('another')) };
    const image = await lab.push('1', [liar]);
    await lab.pushIndex(image, { spanSize });
    const layers = await start(lab);
    expect(await layers.pull(image)).toMatchObject([{ kind: 'served', slot: 1 }]);
    const file = join(await layers.directory(1), 'big');
    await run('cat', [file]);
    await expect
      .poll(() => layers.status())
      .toMatchObject([
        { serving: 'lazy', presentBytes: 0, lastError: expect.stringContaining('the image config says') },
      ]);
    expect(await layers.call('refusal', 1)).toMatch(/cannot be trusted: .* the image config says/);
    await layers.stop();
    const second = await start(lab);
    expect(await second.call('refusal', 1)).toMatch(/is not mounted: .* the image config says/);
    expect(await second.status()).toMatchObject([
      { serving: 'none', lastError: expect.stringContaining('image config says') },
    ]);
  });

  it('does not become a snapshot of content that it is known not to have', async () => {
    const lab = await ImageLab.start();
    const honest = lazyLayer();
    const image = await lab.push('1', [honest], 'a/app');
    const liar = await lab.push('1', [{ ...honest, diffId: sha256(Buffer.from('another')) }], 'b/app');
    await lab.pushIndex(image, { spanSize, repository: 'a/app' });
    await lab.pushIndex(liar, { spanSize, repository: 'b/app' });
    const layers = await start(lab);
    expect(await layers.pull(image)).toMatchObject([{ kind: 'served' }]);
    const refused = { code: 'error', reason: expect.stringMatching(/diffID/) };
    expect(await layers.pull(liar)).toMatchObject([refused]);
    await layers.stop();
    const second = await start(lab);
    expect(await second.pull(liar)).toMatchObject([refused]);
    expect(await second.pull(image)).toMatchObject([{ kind: 'served' }]);
  });
});
