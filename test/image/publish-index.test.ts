import { randomBytes } from 'node:crypto';
import { readFileSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import type { Node } from '../../src/daemon/node.ts';
import { IndexPublisher } from '../../src/image/publish-index.ts';
import { resolveImage } from '../../src/image/resolve.ts';
import { buildLayerIndex } from '../../src/index/builder.ts';
import { createLog } from '../../src/observe/log.ts';
import { layerType } from '../../src/oci/media-type.ts';
import { parseReference } from '../../src/oci/reference.ts';
import { ImageLab, labLayer, sha256 } from '../support/image-lab.ts';
import type { LabImage, LabLayer } from '../support/image-lab.ts';
import { runOk } from '../support/run.ts';
import { oldGnuSparse } from '../support/tar-builder.ts';
import { tarOf } from '../support/tar-members.ts';

/** A little more than the smallest layer that gets a zTOC. */
const large = (path: string): LabLayer => labLayer(tarOf({ path, data: randomBytes((10 << 20) + 1) }));

function gzipped({ tar, diffId }: LabLayer): LabLayer {
  const blob = gzipSync(tar, { level: 1 });
  const mediaType = 'application/vnd.oci.image.layer.v1.tar+gzip';
  return { tar, blob, diffId, descriptor: { mediaType, digest: sha256(blob), size: blob.length } };
}

const plain = large('plain');
const packed = gzipped(large('packed'));
const small = labLayer(tarOf({ path: 'small', data: 'x' }), 'gzip');

/** Somebody who unpacks images on a node. */
class Eager {
  readonly #node: Node;
  readonly #log: string;
  readonly #publisher: IndexPublisher;

  constructor(node: Node, publish: boolean) {
    this.#node = node;
    this.#log = join(node.paths.root, 'log');
    this.#publisher = new IndexPublisher({
      ...node.imageDeps,
      log: createLog({ level: 'info', to: this.#log }),
      publish: () => publish,
    });
  }

  async built(image: LabImage, ...layers: readonly LabLayer[]): Promise<void> {
    const { openOrigin, state, content } = this.#node.imageDeps;
    const reference = parseReference(image.reference);
    const resolved = await resolveImage({ images: state.images, content }, await openOrigin(reference), reference, {
      platform: undefined,
      pull: 'always',
      signal: undefined,
    });
    const builds = layers.map(async ({ blob, descriptor }) => {
      const { compression } = layerType(descriptor.mediaType) ?? {};
      return { layer: descriptor.digest, build: await buildLayerIndex(pieces(blob), { compression }) };
    });
    // All at once, as the worst case is.
    const built = await Promise.all(builds);
    await Promise.all(built.map((each) => this.#publisher.layerBuilt({ image: resolved, ...each })));
  }

  /** Messages of warnings. */
  get warnings(): string[] {
    const lines = readFileSync(this.#log, 'utf8').trim().split('\n');
    const events = lines.map((line) => JSON.parse(line) as { level: number; msg: string });
    return events.filter(({ level }) => level >= 40).map(({ msg }) => msg);
  }
}

async function* pieces(blob: Buffer): AsyncGenerator<Buffer> {
  for (let at = 0; at < blob.length; at += 1 << 20) yield blob.subarray(at, at + (1 << 20));
}

async function servings(node: Node, image: LabImage): Promise<string[]> {
  const opened = await node.openImage(image.reference);
  const found = opened.layers().map(({ serving }) => serving);
  await opened.close();
  return found;
}

const pushes = (lab: ImageLab): string[] =>
  lab.front.requests.map(({ method }) => method).filter((method) => method !== 'GET' && method !== 'HEAD');

describe('an image that was unpacked', () => {
  it('is lazy on this node once every large layer was read, and nobody is told', async () => {
    const lab = await ImageLab.start();
    const image = await lab.push('1', [plain, small, packed, plain]);
    const node = await lab.node();
    const eager = new Eager(node, false);
    await eager.built(image, packed, small);
    expect(node.indexes.list()).toEqual([]);
    await eager.built(image, plain);
    expect(node.indexes.list()).toMatchObject([{ image: image.digest, format: 'soci-v1' }]);
    expect(await servings(node, image)).toEqual(['lazy', 'complete', 'lazy', 'lazy']);
    expect(pushes(lab)).toEqual([]);
    expect(await node.indexes.listRemote(image.reference)).toEqual([]);
  });

  it('is lazy also where a layer was read for another image, whichever was last', async () => {
    const lab = await ImageLab.start();
    const [own, base] = [packed, plain];
    const one = await lab.push('1', [base, small]);
    const two = await lab.push('2', [base, own]);
    const node = await lab.node();
    const eager = new Eager(node, false);
    await eager.built(two, own);
    expect(node.indexes.list()).toEqual([]);
    await eager.built(one, base, small);
    expect(
      node.indexes
        .list()
        .map(({ image }) => image)
        .toSorted(),
    ).toEqual([one.digest, two.digest].toSorted());
    expect(await servings(node, two)).toEqual(['lazy', 'lazy']);
  });

  it('is lazy for everybody where that is wanted, and pushed once', async () => {
    const lab = await ImageLab.start();
    const image = await lab.push('1', [packed, small, plain]);
    const first = new Eager(await lab.node(), true);
    await first.built(image, packed, small, plain);
    expect(pushes(lab).filter((method) => method === 'PUT')).toHaveLength(4);
    const other = await lab.node();
    expect(await servings(other, image)).toEqual(['lazy', 'complete', 'lazy']);
    const [made] = other.indexes.list();
    lab.front.forget();
    await first.built(image, small);
    expect(lab.front.seen(made?.digest)).toEqual([]);
    const second = await lab.node();
    await new Eager(second, true).built(image, packed, plain);
    expect(pushes(lab)).toEqual([]);
    expect(second.indexes.list()).toMatchObject([{ image: image.digest, digest: made?.digest }]);
  });

  it('leaves a layout on disk as it is', async () => {
    const lab = await ImageLab.start();
    const pushed = await lab.push('1', [packed]);
    const layout = join(lab.dir, 'layout');
    await runOk('skopeo', ['copy', '-q', '--src-tls-verify=false', `docker://${pushed.reference}`, `oci:${layout}:1`]);
    const before = readdirSync(layout, { recursive: true });
    const node = await lab.node();
    await new Eager(node, true).built({ ...pushed, reference: `oci:${layout}:1` }, packed);
    expect(node.indexes.list()).toHaveLength(1);
    expect(readdirSync(layout, { recursive: true })).toEqual(before);
  });

  it('needs no layer twice: not after a restart, and not for another image', async () => {
    const lab = await ImageLab.start();
    const image = await lab.push('1', [plain, packed]);
    const node = await lab.node();
    await new Eager(node, false).built(image, plain);
    await new Eager(node, false).built(image, packed);
    expect(node.indexes.list()).toHaveLength(1);
    const another = await lab.push('2', [packed, small], 'lab/another');
    await new Eager(node, false).built(another, small);
    expect(await servings(node, another)).toEqual(['lazy', 'complete']);
  });

  it('does not wait for layers that no zTOC can describe', async () => {
    const lab = await ImageLab.start();
    const size = 11 << 20;
    const sparse = labLayer(
      Buffer.concat([oldGnuSparse('sparse', 2 * size, [[0, size]], randomBytes(size)), Buffer.alloc(1024)]),
    );
    const zstd = labLayer(plain.tar, 'zstd');
    const image = await lab.push('1', [sparse, zstd, packed]);
    const node = await lab.node();
    await new Eager(node, false).built(image, packed, zstd);
    expect(node.indexes.list()).toEqual([]);
    await new Eager(node, false).built(image, sparse);
    expect(await node.indexes.show(image.reference)).toMatchObject([{ layers: [{ layer: packed.descriptor.digest }] }]);
  });

  it('gets no index when there is nothing to describe', async () => {
    const lab = await ImageLab.start();
    const image = await lab.push('1', [small, small]);
    const node = await lab.node();
    await new Eager(node, true).built(image, small);
    expect(node.indexes.list()).toEqual([]);
    expect(pushes(lab)).toEqual([]);
  });

  it('gets another index when the first was removed, or a part of it was lost', async () => {
    const lab = await ImageLab.start();
    const image = await lab.push('1', [plain, packed]);
    const node = await lab.node();
    const eager = new Eager(node, false);
    await eager.built(image, plain, packed);
    const [row] = node.indexes.list();
    await node.indexes.remove(image.reference);
    await eager.built(image, plain);
    expect(node.indexes.list()).toEqual([]);
    await eager.built(image, packed);
    expect(node.indexes.list()).toMatchObject([{ digest: row?.digest }]);
    rmSync(join(node.paths.root, 'content'), { recursive: true });
    await eager.built(image, packed);
    expect(row?.digest && (await node.imageDeps.content.local(row.digest))).toBeUndefined();
    await eager.built(image, plain);
    expect(await servings(node, image)).toEqual(['lazy', 'lazy']);
  });
});

describe('a registry', () => {
  it('that takes no index says so once, and the images are lazy here all the same', async () => {
    const lab = await ImageLab.start();
    const images = [await lab.push('1', [packed]), await lab.push('2', [packed, small], 'lab/another')];
    lab.front.interfere(
      ({ method }) => method === 'POST' || method === 'PUT',
      (_request, response) => void response.writeHead(403).end(),
    );
    const node = await lab.node();
    const eager = new Eager(node, true);
    for (const image of images) await eager.built(image, packed);
    expect(node.indexes.list()).toHaveLength(2);
    expect(eager.warnings).toEqual([expect.stringContaining(`${lab.front.host} takes no index`)]);
  });

  it('that fails is told of each time, and gets the index the next time', async () => {
    const lab = await ImageLab.start();
    const image = await lab.push('1', [packed]);
    const mend = lab.front.interfere(
      ({ method }) => method === 'POST',
      (_request, response) => void response.writeHead(400).end(),
    );
    const eager = new Eager(await lab.node(), true);
    await eager.built(image, packed);
    await eager.built(image, packed);
    expect(eager.warnings).toEqual(Array(2).fill('the index of the image could not be pushed'));
    mend();
    await eager.built(image, packed);
    expect(await servings(await lab.node(), image)).toEqual(['lazy']);
  });
});
