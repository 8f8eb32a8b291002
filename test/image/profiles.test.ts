// Profiles between two nodes and a registry: recorded on one, pushed beside the image, used on the other before anybody reads.
import { randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import type { Node } from '../../src/daemon/node.ts';
import { countedLayers } from '../../src/image/counted-layers.ts';
import type { FoundProfile } from '../../src/image/profile-finder.ts';
import { createPeelProfile } from '../../src/index/peel-profile-writer.ts';
import type { ProfileLayer } from '../../src/index/peel-profile.ts';
import type { Digest } from '../../src/oci/digest.ts';
import { ImageLab, labLayer } from '../support/image-lab.ts';
import type { LabImage } from '../support/image-lab.ts';
import { tarOf } from '../support/tar-members.ts';

const spanSize = 4096;

interface World {
  readonly lab: ImageLab;
  readonly image: LabImage;
  readonly layer: Digest;
}

async function world(): Promise<World> {
  const lab = await ImageLab.start();
  const image = await lab.push('1', [labLayer(tarOf({ path: 'f', data: randomBytes(40 * spanSize) }))]);
  await lab.pushIndex(image, { spanSize });
  return { lab, image, layer: image.layers[0]?.descriptor.digest as Digest };
}

/** The image, opened on the node; closed before the node is. */
async function opened(node: Node, { image }: World) {
  const loaded = await node.openImage(image.reference);
  const warnings: string[] = [];
  const find = async (): Promise<FoundProfile | undefined> =>
    await loaded.findProfile({ onWarning: (warning) => void warnings.push(warning) });
  return { loaded, warnings, find };
}

async function pushProfile(
  { lab, image }: World,
  layers: readonly ProfileLayer[],
  more: { readonly recordedAt?: number; readonly subject?: Digest; readonly spans?: Buffer } = {},
): Promise<Digest> {
  const described = await lab.registry.resolveManifest(lab.repository, image.digest);
  const subject = { ...described, digest: more.subject ?? image.digest };
  const { manifest, blobs } = createPeelProfile({ subject, recordedAt: more.recordedAt ?? 0, layers });
  for (const { descriptor, bytes } of blobs)
    await lab.registry.pushBlob(lab.repository, descriptor, () => Readable.from([Buffer.from(bytes)]));
  const options = { allowMissing: true };
  const { mediaType } = manifest.descriptor;
  return (await lab.registry.pushManifest(lab.repository, undefined, manifest.bytes, mediaType, options)).digest;
}

async function recorded(here: World, spans: readonly number[]): Promise<ProfileLayer> {
  const node = await here.lab.node();
  const { loaded } = await opened(node, here);
  const [counted] = countedLayers(loaded.openLayers);
  await loaded.close();
  if (counted === undefined) throw new Error('the layer is not lazy');
  return { ...counted, runs: 1, spans };
}

describe('a profile of an image', () => {
  it('is pushed by one node and found by the next, which asks for its spans before anybody reads', async () => {
    const here = await world();
    const first = await here.lab.node();
    const layer = await recorded(here, [30, 31, 5, 6]);
    first.state.profiles.merge(here.image.digest, [layer], 1000);
    const [pushed] = await first.profiles.push(here.image.reference);
    expect(pushed?.image).toBe(here.image.digest);
    const second = await here.lab.node();
    here.lab.front.forget();
    const { loaded, find, warnings } = await opened(second, here);
    const profile = await find();
    expect(here.lab.front.seen('/referrers/')).toHaveLength(1);
    expect(warnings).toEqual([]);
    expect(profile?.source).toMatch(/^referrer in /);
    expect(profile?.orders.get(here.layer)).toEqual([30, 31, 5, 6]);
    const [open] = loaded.openLayers;
    open?.want(profile?.orders.get(here.layer) ?? [], 'profile');
    await expect.poll(() => open?.present.spans).toBe(4);
    expect([5, 6, 7, 30, 31].map((span) => open?.cache.isPresent(span))).toEqual([true, true, false, true, true]);
    await loaded.close();
    // It is known now, also to those who cannot ask.
    here.lab.front.forget();
    const again = await opened(second, here);
    expect((await again.find())?.orders.get(here.layer)).toEqual([30, 31, 5, 6]);
    expect(here.lab.front.seen('/referrers/')).toEqual([]);
    await again.loaded.close();
  });

  it('costs an image without one no request', async () => {
    const here = await world();
    const { loaded, find, warnings } = await opened(await here.lab.node(), here);
    here.lab.front.forget();
    expect(await find()).toBeUndefined();
    expect(here.lab.front.seen('/')).toEqual([]);
    expect(warnings).toEqual([]);
    await loaded.close();
  });

  it('is the newest of several', async () => {
    const here = await world();
    const layer = await recorded(here, [1]);
    await pushProfile(here, [{ ...layer, spans: [2] }], { recordedAt: 2000 });
    await pushProfile(here, [{ ...layer, spans: [3] }], { recordedAt: 3000 });
    await pushProfile(here, [layer], { recordedAt: 1000 });
    const { loaded, find } = await opened(await here.lab.node(), here);
    const profile = await find();
    expect(profile?.orders.get(here.layer)).toEqual([3]);
    expect(profile?.source).toMatch(/newest of 3$/);
    await loaded.close();
  });

  const other = `sha256:${'e'.repeat(64)}` as Digest;
  it.each([
    ['counts the spans of another index', { index: other }, {}, `it counts the spans of index ${other}, but layer`],
    ['counts another number of spans', { spanCount: 39 }, {}, 'it counts 39 spans of layer'],
  ])('is ignored with one message when it %s', async (_, change, more, message) => {
    const here = await world();
    const layer = await recorded(here, [1, 2]);
    const digest = await pushProfile(here, [{ ...layer, ...change }], more);
    const { loaded, find, warnings } = await opened(await here.lab.node(), here);
    expect(await find()).toBeUndefined();
    expect(warnings).toEqual([expect.stringContaining(message)]);
    expect(warnings[0]).toContain(`the profile ${digest} (referrer in `);
    await loaded.close();
  });

  it('is passed over for an older one that can be used, with one message', async () => {
    const here = await world();
    const layer = await recorded(here, [1, 2]);
    await pushProfile(here, [layer], { recordedAt: 1000 });
    const wrong = await pushProfile(here, [{ ...layer, spans: [200] }], { recordedAt: 2000 });
    const { loaded, find, warnings } = await opened(await here.lab.node(), here);
    expect((await find())?.orders.get(here.layer)).toEqual([1, 2]);
    expect(warnings).toEqual([expect.stringMatching(new RegExp(`^the profile ${wrong} .* is ignored: .*none of its`))]);
    await loaded.close();
  });

  it('of another image is ignored', async () => {
    const here = await world();
    const layer = await recorded(here, [1, 2]);
    const foreign = await here.lab.push('2', [...here.image.layers, labLayer(tarOf({ path: 'g' }))]);
    const digest = await pushProfile(here, [layer], { subject: foreign.digest });
    const node = await here.lab.node();
    const { loaded } = await opened(node, here);
    const { ProfileFinder } = await import('../../src/image/profile-finder.ts');
    const { openOrigin } = await import('../../src/image/open-image.ts');
    const warnings: string[] = [];
    const found = await new ProfileFinder({ profiles: node.state.profiles, content: node.imageDeps.content }).find({
      origin: await openOrigin(node.imageDeps, here.image.reference),
      image: here.image.digest,
      layers: countedLayers(loaded.openLayers),
      // A registry that lies about what refers to what.
      listed: { peel: [], soci: [], profile: [{ digest, created: undefined }] },
      onWarning: (warning) => void warnings.push(warning),
    });
    expect(found).toBeUndefined();
    expect(warnings).toEqual([expect.stringContaining('it is for another image')]);
    await loaded.close();
  });

  it('is pushed by who recorded it only, and forgotten', async () => {
    const here = await world();
    const layer = await recorded(here, [1, 2]);
    const node = await here.lab.node();
    const { reference, digest } = here.image;
    await expect(node.profiles.push(reference)).rejects.toThrow(/this node has no profile of/);
    node.state.profiles.put(digest, [layer], 'referrer in there');
    await expect(node.profiles.push(reference)).rejects.toThrow(/recorded no start of .*referrer in there/);
    expect(await node.profiles.show(digest)).toMatchObject([{ image: digest, layers: [{ runs: 1, spans: [1, 2] }] }]);
    expect(await node.profiles.remove(reference)).toEqual([digest]);
    await expect(node.profiles.show(reference)).rejects.toThrow(/no profile/);
  });

  it('is said in the form of SOCI, and used by who finds the new index', async () => {
    const here = await world();
    const first = await here.lab.node();
    const layer = await recorded(here, [30, 31, 5, 6]);
    first.state.profiles.merge(here.image.digest, [layer], 1_750_000_000_000);
    const [pushed] = await first.profiles.push(here.image.reference, { format: 'soci' });
    const manifest = await here.lab.registry.getManifest(here.lab.repository, pushed?.profile as Digest);
    const text = Buffer.from(manifest.bytes).toString();
    expect(text).toMatch(
      /^\{"schemaVersion":2,"mediaType":"[^"]+","config":\{"mediaType":"application\/vnd.amazon.soci.index.v1\+json"/,
    );
    expect(text).toContain('"org.opencontainers.image.created":"2025-06-15T15:06:40.000Z"');
    expect(text).not.toContain('artifactType');
    const { loaded, find, warnings } = await opened(await here.lab.node(), here);
    expect(loaded.openLayers[0]?.row.indexDigest).toBe(pushed?.profile);
    expect(await find()).toEqual({
      source: `SOCI index ${pushed?.profile}`,
      orders: new Map([[here.layer, [30, 31, 5, 6]]]),
    });
    expect(warnings).toEqual([]);
    await loaded.close();
    // A profile that is pushed with it counts the spans of both.
    await first.profiles.push(here.image.reference, { format: 'both' });
    const second = await opened(await here.lab.node(), here);
    const profile = await second.find();
    expect(profile?.source).toMatch(/^referrer in /);
    expect(profile?.orders.get(here.layer)).toEqual([30, 31, 5, 6]);
    expect(second.warnings).toEqual([]);
    await second.loaded.close();
  });

  it('counts spans of another size when it is said by an index that has these', async () => {
    const here = await world();
    const first = await here.lab.node();
    const layer = await recorded(here, [30, 31, 4, 6]);
    first.state.profiles.merge(here.image.digest, [layer]);
    await here.lab.pushIndex(here.image, { spanSize: 4 * spanSize, created: '2020-01-01T00:00:00Z' });
    await first.profiles.push(here.image.reference, { format: 'soci' });
    const { loaded, find } = await opened(await here.lab.node(), here);
    expect((await find())?.orders.get(here.layer)).toEqual([7, 1]);
    await loaded.close();
  });
});
