// What one layer is offered of the indexes of its image, and whether what goes with it is there.
import { randomBytes } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import { describe, expect, it } from 'vitest';
import type { FoundIndex } from '../../src/image/found-index.ts';
import { IndexFinder } from '../../src/image/index-finder.ts';
import type { Discovery } from '../../src/image/index-finder.ts';
import { offeredIndex } from '../../src/image/offered-index.ts';
import { openOrigin } from '../../src/image/open-image.ts';
import { resolveImage } from '../../src/image/resolve.ts';
import type { RemotePeelIndex } from '../../src/layer/layer-store.ts';
import type { Descriptor } from '../../src/oci/descriptor.ts';
import type { Digest } from '../../src/oci/digest.ts';
import { parseReference } from '../../src/oci/reference.ts';
import { ImageLab, labLayer, sha256 } from '../support/image-lab.ts';
import { pushPeelIndex } from '../support/peel-index.ts';
import type { PushPeelOptions } from '../support/peel-index.ts';
import { tarOf } from '../support/tar-members.ts';

const digestOf = (name: string) => sha256(Buffer.from(name));
const blob = (name: string): Descriptor => ({ mediaType: 'a/b', digest: digestOf(name), size: 9 });
const subject = blob('image');

function peel(name: string, layers: readonly Digest[]): FoundIndex {
  const described = layers.map((layer) => ({
    layer,
    spanSize: undefined,
    table: blob(`table ${name}`),
    windows: undefined,
  }));
  return {
    format: 'peel',
    digest: digestOf(name),
    source: name,
    index: { subject, buildTool: '', layers: described },
  };
}

function soci(name: string, layers: readonly Digest[]): FoundIndex {
  const described = layers.map((layer) => ({ layer, layerMediaType: '', spanSize: 1, ztoc: blob(`zTOC ${name}`) }));
  const index = { version: 'v1' as const, subject, buildTool: '', layers: described, prefetch: [] };
  return { format: 'soci-v1', digest: digestOf(name), source: name, index };
}

const gzip = 'application/vnd.oci.image.layer.v1.tar+gzip';
const layer = (size: number, mediaType = gzip): Descriptor => ({ mediaType, digest: digestOf('layer'), size });

/** Of each attempt until there is none: where the index is from; then why there is none. */
async function offers(found: readonly FoundIndex[], descriptor: Descriptor): Promise<string[]> {
  const discovery: Discovery = {
    found: found[0],
    reason: 'no index: the registry has none',
    warnings: [],
    candidate: async (position) => found[position],
    listed: () => undefined,
  };
  const lab = await ImageLab.start();
  const deps = (await lab.node()).imageDeps;
  const origin = await openOrigin(deps, `${lab.front.host}/lab/app:1`);
  const offered: string[] = [];
  for (let attempt = 0; ; attempt += 1) {
    const { index, reason } = await offeredIndex(deps, origin, descriptor, discovery, attempt);
    offered.push(index?.source ?? reason);
    if (index === undefined) return offered;
  }
}

describe('a layer', () => {
  const its = [digestOf('layer')];
  const others = [digestOf('another layer')];
  const big = 10 << 20;
  const leavesOut = (name: string, why = '') => `index ${digestOf(name)} leaves it out${why}`;

  it('is offered every index that has it, best first', async () => {
    const found = [peel('a', its), peel('b', others), peel('c', its), soci('d', others), soci('e', its)];
    expect(await offers(found, layer(5))).toEqual(['a', 'c', 'e', 'no other index has it']);
  });

  it('has none when the first leaves it out for its size', async () => {
    expect(await offers([peel('a', others), soci('b', its)], layer(big - 1))).toEqual([leavesOut('a')]);
    expect(await offers([soci('a', others), soci('b', its)], layer(big))).toEqual([leavesOut('a')]);
  });

  it('is offered the others when a peel index cannot describe it and it is large', async () => {
    expect(await offers([peel('a', others), soci('b', its)], layer(big))).toEqual(['b', 'no other index has it']);
    expect(await offers([peel('a', others), soci('b', others)], layer(big))).toEqual([leavesOut('a')]);
  });

  it('is said to be left out for what is likely', async () => {
    const mib = 1 << 20;
    const below = (size: string) => `(${size}, likely below its minimum)`;
    expect(await offers([peel('a', others)], layer(5))).toEqual([leavesOut('a', ` ${below('5 B')}`)]);
    expect(await offers([soci('a', others)], layer(9 * mib))).toEqual([leavesOut('a', ` ${below('9.0 MiB')}`)]);
    expect(await offers([peel('a', others)], layer(mib))).toEqual([leavesOut('a')]);
    const zstd = layer(mib, 'application/vnd.oci.image.layer.v1.tar+zstd');
    expect(await offers([peel('a', others)], zstd)).toEqual([leavesOut('a', ' (zstd, likely in one frame)')]);
  });

  it('of zstd is offered peel indexes only', async () => {
    const zstd = layer(5, 'application/vnd.oci.image.layer.v1.tar+zstd');
    expect(await offers([peel('a', its), soci('b', its)], zstd)).toEqual(['a', 'no other index has it']);
    expect(await offers([soci('b', its)], zstd)).toEqual(['no index: media type is zstd']);
    expect(await offers([], zstd)).toEqual(['no index: the registry has none']);
  });
});

describe('a peel index', () => {
  async function offered(options: PushPeelOptions = {}) {
    const lab = await ImageLab.start();
    const image = await lab.push('1', [labLayer(tarOf({ path: 'f', data: randomBytes(100) }))]);
    const descriptor = image.layers[0]?.descriptor as Descriptor;
    const table = randomBytes(1000);
    const windows = randomBytes(500);
    const digest = await pushPeelIndex(lab, image, [{ layer: descriptor.digest, table, windows }], options);
    const deps = (await lab.node()).imageDeps;
    const origin = await openOrigin(deps, image.reference);
    const { content, state } = deps;
    const resolved = await resolveImage({ images: state.images, content }, origin, parseReference(image.reference), {
      platform: undefined,
      pull: 'always',
      signal: undefined,
    });
    const discovery = await new IndexFinder(state.indexes, content).find(origin, resolved, {
      mode: digest,
      onWarning: (warning) => expect.unreachable(warning),
      signal: undefined,
    });
    const { index } = await offeredIndex(deps, origin, descriptor, discovery, 0);
    lab.front.forget();
    return { lab, content, index: index as RemotePeelIndex, table, windows };
  }
  const signal = undefined;

  it('has its table and asks whether its windows are there', async () => {
    const { lab, index, table, windows } = await offered();
    expect(await index.load({ signal })).toEqual(table);
    expect(await index.findWindows({ signal })).toBeUndefined();
    const { front } = lab;
    expect(front.requests.map(({ method, status }) => [method, status])).toEqual([
      ['GET', 200],
      ['HEAD', 200],
    ]);
    expect(front.seen(sha256(windows))).toMatchObject([{ method: 'HEAD', bytes: 0 }]);
  });

  it('has both from the node that made it', async () => {
    const { lab, content, index, table, windows } = await offered();
    await content.keep({ descriptor: index.table, bytes: table });
    await content.keep({ descriptor: index.windows as Descriptor, bytes: windows });
    expect(await index.load({ signal })).toEqual(table);
    expect(await index.findWindows({ signal })).toEqual(windows);
    expect(lab.front.requests).toEqual([]);
  });

  it('without its windows, or with others, says so', async () => {
    const { index, lab, windows } = await offered({ withoutWindows: true });
    await expect(index.findWindows({ signal })).rejects.toMatchObject({
      code: 'ERR_IMAGE_CONTENT',
      message: `its windows ${sha256(windows)} are not in ${lab.front.host}/lab/app`,
    });
    lab.front.interfere(
      ({ method }) => method === 'HEAD',
      (_, response) => void response.writeHead(200, { 'content-length': '501' }).end(),
    );
    await expect(index.findWindows({ signal })).rejects.toMatchObject({ code: 'ERR_IMAGE_CONTENT' });
  });

  it.each([
    ['knows no HEAD', (response: ServerResponse) => response.writeHead(405)],
    ['states no length', (response: ServerResponse) => response.writeHead(200, { 'transfer-encoding': 'chunked' })],
  ])('of a registry that %s is taken at its word', async (_, answer) => {
    const { index, lab } = await offered();
    lab.front.interfere(
      ({ method }) => method === 'HEAD',
      (__, response) => void answer(response).end(),
    );
    expect(await index.findWindows({ signal })).toBeUndefined();
  });

  it('of a registry that cannot be asked has an error of the registry', async () => {
    const { index, lab } = await offered();
    lab.front.interfere(
      ({ method }) => method === 'HEAD',
      (_, response) => void response.writeHead(403).end(),
    );
    await expect(index.findWindows({ signal })).rejects.toMatchObject({ code: 'DENIED' });
  });
});
