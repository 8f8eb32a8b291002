// Which indexes of an image are used and in which order, asked of a registry that has several.
import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { madeHere } from '../../src/image/assemble-index.ts';
import { IndexFinder } from '../../src/image/index-finder.ts';
import type { Discovery, FindOptions } from '../../src/image/index-finder.ts';
import { openOrigin } from '../../src/image/open-image.ts';
import { resolveImage } from '../../src/image/resolve.ts';
import type { ResolvedImage } from '../../src/image/resolve.ts';
import type { Digest } from '../../src/oci/digest.ts';
import { parseReference } from '../../src/oci/reference.ts';
import { ImageLab, labLayer, sha256 } from '../support/image-lab.ts';
import type { LabImage } from '../support/image-lab.ts';
import { pushPeelIndex } from '../support/peel-index.ts';
import type { PushPeelOptions } from '../support/peel-index.ts';
import { tarOf } from '../support/tar-members.ts';

const v1 = 'application/vnd.amazon.soci.index.v1+json';
const v2 = 'application/vnd.amazon.soci.index.v2+json';

class World {
  readonly lab: ImageLab;
  readonly image: LabImage;
  readonly warnings: string[] = [];
  readonly #deps: Awaited<ReturnType<ImageLab['node']>>['imageDeps'];

  private constructor(lab: ImageLab, image: LabImage, deps: World['deps']) {
    this.lab = lab;
    this.image = image;
    this.#deps = deps;
  }

  get deps() {
    return this.#deps;
  }

  static async start(): Promise<World> {
    const lab = await ImageLab.start();
    const image = await lab.push('1', [labLayer(tarOf({ path: 'f', data: randomBytes(1000) }))]);
    return new World(lab, image, (await lab.node()).imageDeps);
  }

  /** A peel index whose table nobody reads here. */
  async pushPeel(options: PushPeelOptions = {}): Promise<Digest> {
    const layer = this.image.layers[0]?.descriptor.digest as Digest;
    return await pushPeelIndex(this.lab, this.image, [{ layer, table: randomBytes(50) }], options);
  }

  async pushSoci(created?: string): Promise<Digest> {
    const spanSize = 100 + Math.floor(Math.random() * 1000);
    const options = created === undefined ? { spanSize } : { spanSize, created };
    return (await this.lab.pushIndex(this.image, options)).manifest.descriptor.digest;
  }

  /** A manifest like that of a SOCI index that is there already, of version 2. */
  async pushSociV2(of: Digest): Promise<Digest> {
    const { bytes, descriptor } = await this.lab.registry.getManifest(this.lab.repository, of);
    const { subject: _, ...value } = JSON.parse(Buffer.from(bytes).toString().replace(v1, v2)) as { subject: unknown };
    const changed = Buffer.from(JSON.stringify(value));
    return (await this.lab.registry.pushManifest(this.lab.repository, undefined, changed, descriptor.mediaType)).digest;
  }

  async find(
    options: Partial<FindOptions> & { readonly annotated?: Digest } = {},
  ): Promise<{ readonly discovery: Discovery; readonly resolved: ResolvedImage }> {
    const { annotated, ...rest } = options;
    const { content, state } = this.#deps;
    const origin = await openOrigin(this.#deps, this.image.reference);
    const deps = { images: state.images, content };
    const wish = { platform: undefined, pull: 'missing' as const, signal: undefined };
    const image = await resolveImage(deps, origin, parseReference(this.image.reference), wish);
    const annotations = annotated === undefined ? {} : { 'com.amazon.soci.index-digest': annotated };
    const resolved = { ...image, manifest: { ...image.manifest, annotations } };
    const onWarning = (warning: string) => void this.warnings.push(warning);
    const discovery = await new IndexFinder(state.indexes, content).find(origin, resolved, {
      mode: 'auto',
      onWarning,
      signal: undefined,
      ...rest,
    });
    return { discovery, resolved };
  }
}

async function all(discovery: Discovery): Promise<{ digest: Digest; format: string; source: string }[]> {
  const found = [];
  for (let i = 0; ; i += 1) {
    const candidate = await discovery.candidate(i);
    if (candidate === undefined) return found;
    found.push(candidate);
  }
}

const shown = (found: Awaited<ReturnType<typeof all>>, { lab }: World) =>
  found.map(({ digest, format, source }) => [digest, format, source.replace(`${lab.front.host}/lab/app`, 'there')]);

describe('the indexes of an image', () => {
  it('come peel first, newest first, then by digest; then the one it names, then SOCI v1', async () => {
    const world = await World.start();
    const old = await world.pushPeel({ created: '2023-01-01T00:00:00Z' });
    const fresh = await world.pushPeel({ created: '2025-01-01T00:00:00Z' });
    const silent = [await world.pushPeel(), await world.pushPeel()].toSorted();
    const soci = await world.pushSoci();
    const named = await world.pushSociV2(soci);
    world.lab.front.forget();
    const { discovery } = await world.find({ annotated: named });
    expect(shown(await all(discovery), world)).toEqual([
      [fresh, 'peel', 'referrer in there, newest of 4'],
      [old, 'peel', 'referrer in there, number 2 of 4, newest first'],
      [silent[0], 'peel', 'referrer in there, number 3 of 4, by digest'],
      [silent[1], 'peel', 'referrer in there, number 4 of 4, by digest'],
      [named, 'soci-v2', 'annotation of the image manifest'],
      [soci, 'soci-v1', 'referrer in there'],
    ]);
    expect(world.lab.front.seen('/referrers/')).toHaveLength(1);
    expect(world.warnings).toEqual([]);
    // The one that was used last is known now, also to those who cannot ask.
    await world.lab.front.close();
    expect((await world.find()).discovery.found).toMatchObject({ format: 'peel', digest: silent[1] });
  });

  it('stay known when they were made here, whatever is tried after them', async () => {
    const world = await World.start();
    const made = await world.pushPeel({ created: '2023-01-01T00:00:00Z' });
    const other = await world.pushPeel({ created: '2025-01-01T00:00:00Z' });
    const { indexes } = world.deps.state;
    const image = world.image.digest;
    indexes.put({ image, kind: 'peel', digest: made, format: 'peel', source: madeHere });
    const { discovery } = await world.find();
    expect((await all(discovery)).map(({ digest }) => digest)).toEqual([made, other]);
    expect(indexes.get(image, 'peel')).toMatchObject({ digest: made, source: madeHere });
  });

  it('are read when somebody gets to them, and once for all who ask', async () => {
    const world = await World.start();
    const first = await world.pushPeel({ created: '2025-01-01T00:00:00Z' });
    const second = await world.pushPeel({ created: '2024-01-01T00:00:00Z' });
    const soci = await world.pushSoci();
    // The list says when they were made, unlike this store's.
    const manifests = [first, second].map((digest, i) => ({
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      digest,
      size: 1,
      artifactType: 'application/vnd.peel.index.v1+json',
      annotations: { 'org.opencontainers.image.created': `202${5 - i}-01-01T00:00:00Z` },
    }));
    const listed = [...manifests, { ...manifests[0], digest: soci, artifactType: v1 }];
    const body = JSON.stringify({ schemaVersion: 2, manifests: listed });
    world.lab.front.interfere(
      ({ url = '' }) => url.includes('/referrers/'),
      (_, response) =>
        void response.writeHead(200, { 'content-type': 'application/vnd.oci.image.index.v1+json' }).end(body),
    );
    const { discovery } = await world.find();
    const { front } = world.lab;
    expect([first, second, soci].map((digest) => front.seen(digest).length)).toEqual([1, 0, 0]);
    const later = await Promise.all(Array.from({ length: 8 }, (_, i) => discovery.candidate(2 - (i % 3))));
    expect(later.slice(0, 3).map((each) => each?.digest)).toEqual([soci, second, first]);
    expect(later[0]).toBe(later[3]);
    expect([first, second, soci].map((digest) => front.seen(digest).length)).toEqual([1, 1, 1]);
    expect(front.seen('/referrers/')).toHaveLength(1);
  });

  it('that are for another image, garbage or not there are passed over, each said once', async () => {
    const world = await World.start();
    const layer = world.image.layers[0]?.descriptor.digest as Digest;
    const { registry, repository } = world.lab;
    const ages = ['2029', '2028', '2027', '2026', '2025'].map((year) => ({ created: `${year}-01-01T00:00:00Z` }));
    const table = randomBytes(9);
    const elsewhere = sha256(randomBytes(5));
    const strange = await pushPeelIndex(world.lab, world.image, [{ layer: elsewhere, table }], ages[0]);
    const empty = await pushPeelIndex(world.lab, world.image, [], ages[1]);
    const broken = await pushPeelIndex(world.lab, world.image, [{ layer: 'sha256:no' as Digest, table }], ages[2]);
    const gone = await world.pushPeel(ages[3]);
    const good = await world.pushPeel(ages[4]);
    const foreign = await pushPeelIndex(world.lab, world.image, [{ layer, table }], { subject: elsewhere });
    const { front } = world.lab;
    front.interfere(
      ({ url = '' }) => url.includes(`/manifests/${gone}`),
      (_, response) => void response.writeHead(404).end(),
    );
    const { discovery } = await world.find({ annotated: foreign });
    expect(discovery.found).toMatchObject({ digest: good });
    // Two layers, and one of them comes again.
    for (let i = 0; i < 3; i++) expect(await all(discovery)).toHaveLength(1);
    const why = [
      [strange, /none of its 1 layers is in this one$/],
      [empty, /none of its 0 layers is in this one$/],
      [broken, /layer/],
      [gone, /it is not in .*lab\/app/],
      [foreign, /media type/],
    ] as const;
    expect(world.warnings).toHaveLength(why.length);
    // One that is not there says nothing of its age, and comes last of its kind.
    for (const [digest, reason] of why) {
      const said = world.warnings.filter((warning) => warning.startsWith(`the index ${digest} (`));
      expect(said).toEqual([expect.stringMatching(reason)]);
    }
    expect(await registry.resolveManifest(repository, foreign)).toBeDefined();
  });

  it('with another subject are refused although they know the layers', async () => {
    const world = await World.start();
    const other = await world.lab.push('2', [
      ...world.image.layers,
      labLayer(tarOf({ path: 'more', data: randomBytes(10) })),
    ]);
    const layer = world.image.layers[0]?.descriptor.digest as Digest;
    const digest = await pushPeelIndex(world.lab, other, [{ layer, table: randomBytes(9) }]);
    await expect(world.find({ mode: digest })).rejects.toMatchObject({
      code: 'ERR_IMAGE_INDEX',
      message: expect.stringContaining(`it is for another image: its subject is ${other.digest}`),
    });
    expect((await world.find()).discovery.found).toBeUndefined();
  });

  it('of either kind can be named', async () => {
    const world = await World.start();
    const peel = await world.pushPeel();
    const soci = await world.pushSoci();
    for (const [mode, format] of [
      [soci, 'soci-v1'],
      [peel, 'peel'],
    ] as const) {
      const formats = { peel: false, soci_v1: false, soci_v2: false };
      const { discovery } = await world.find({ mode, formats });
      expect(shown(await all(discovery), world)).toEqual([[mode, format, 'named by its digest']]);
    }
    expect(world.lab.front.seen('/referrers/')).toEqual([]);
  });

  it('of formats that are switched off are not used, also when they are known', async () => {
    const world = await World.start();
    await world.pushPeel();
    const soci = await world.pushSoci();
    await world.find({ mode: 'require' });
    world.lab.front.forget();
    const off = { peel: false, soci_v1: true, soci_v2: true };
    expect(await all((await world.find({ formats: off })).discovery)).toMatchObject([{ digest: soci }]);
    // Profiles come with the same answer.
    expect(world.lab.front.seen('/referrers/')).toHaveLength(1);
    const none = await world.find({ formats: { peel: false, soci_v1: false, soci_v2: true } });
    expect(none.discovery).toMatchObject({
      found: undefined,
      reason: 'no index: its manifest names none; peel and SOCI v1 are switched off (index.formats)',
    });
    expect(world.lab.front.seen('/referrers/')).toHaveLength(1);
  });

  it('are found among more referrers than anybody looks through', async () => {
    const world = await World.start();
    const peel = await world.pushPeel();
    const soci = await world.pushSoci();
    const other = { mediaType: 'application/vnd.oci.image.manifest.v1+json', digest: peel, size: 1 };
    const signatures = Array.from({ length: 600 }, (_, i) => ({
      ...other,
      digest: sha256(Buffer.from(`${i}`)),
      artifactType: 'application/signature',
    }));
    world.lab.front.interfere(
      ({ url = '' }) => url.includes('/referrers/') && !url.includes('artifactType'),
      (_, response) =>
        void response
          .writeHead(200, { 'content-type': 'application/vnd.oci.image.index.v1+json' })
          .end(JSON.stringify({ schemaVersion: 2, manifests: signatures })),
    );
    expect((await all((await world.find()).discovery)).map(({ digest }) => digest)).toEqual([peel, soci]);
    expect(world.lab.front.seen('/referrers/')).toHaveLength(3);
  });

  it('that a registry cannot tell of are an error only where there is no other', async () => {
    const world = await World.start();
    const named = await world.pushSociV2(await world.pushSoci());
    const well = world.lab.front.interfere(
      ({ url = '' }) => url.includes('/referrers/'),
      (_, response) => void response.writeHead(403).end(),
    );
    const { discovery } = await world.find({ annotated: named });
    expect(discovery).toMatchObject({ found: { digest: named, format: 'soci-v2' }, reason: '' });
    expect(discovery.error).toBeUndefined();
    world.deps.state.indexes.delete(world.image.digest);
    const failed = (await world.find()).discovery;
    expect(failed).toMatchObject({ found: undefined, reason: expect.stringContaining('could not be asked') });
    expect(failed.error).toBeDefined();
    await expect(world.find({ mode: 'require' })).rejects.toMatchObject({ code: 'ERR_IMAGE_INDEX' });
    well();
    expect((await world.find()).discovery.found).toMatchObject({ format: 'soci-v1' });
  });
});
