import { randomBytes } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { describe, expect, it } from 'vitest';
import type { Image } from '../../src/image/image.ts';
import type { TreeNode } from '../../src/tree/tree.ts';
import { byteStringFromText } from '../../src/util/byte-string.ts';
import { answer, closeEarly, forBlob, forManifests, ignoreRange, otherRange, stall } from '../support/faults.ts';
import { ImageLab, labLayer } from '../support/image-lab.ts';
import type { LabImage } from '../support/image-lab.ts';
import type { Fault } from '../support/registry-front.ts';
import { tarOf } from '../support/tar-members.ts';

const spanSize = 64 << 10;
const data = randomBytes(600_000);

async function lazyImage(
  o: { readDeadlineMs?: number } = {},
): Promise<{ lab: ImageLab; pushed: LabImage; image: Image; file: TreeNode }> {
  const lab = await ImageLab.start();
  const pushed = await lab.push('1', [labLayer(tarOf({ path: 'f', data }))]);
  await lab.pushIndex(pushed, { spanSize });
  const image = await (await lab.node({ readDeadlineMs: 3000, ...o })).openImage(pushed.reference);
  const file = (await image.tree()).root.children.get(byteStringFromText('f'));
  if (file === undefined) throw new Error('no f');
  return { lab, pushed, image, file };
}

const layerOf = (pushed: LabImage) => forBlob(pushed.layers[0]?.descriptor.digest ?? '');

/** The fault for the first `times` requests that match. */
function firstTimes(
  times: number,
  match: (request: IncomingMessage) => boolean,
): (request: IncomingMessage) => boolean {
  let left = times;
  return (request) => match(request) && left-- > 0;
}

describe('reading through a registry that fails for a while', () => {
  const faults: [string, Fault][] = [
    ['answers 500', answer(500)],
    ['answers 429 with Retry-After', answer(429, { 'retry-after': '0' })],
    ['closes early', closeEarly(1000)],
    ['ignores the range', ignoreRange],
    ['answers another range', otherRange],
  ];
  it.each(faults)('gives the right bytes when it %s', async (_, fault) => {
    const { lab, pushed, image, file } = await lazyImage({ readDeadlineMs: 20_000 });
    lab.front.interfere(firstTimes(2, layerOf(pushed)), fault);
    expect(Buffer.from(await image.read(file, 0, data.length)).equals(data)).toBe(true);
    await image.close();
  });

  it('fetches a damaged span again', async () => {
    const { lab, pushed, image, file } = await lazyImage();
    const damage: Fault = (request, response) => {
      const [, from, to] = /bytes=(\d+)-(\d+)/.exec(request.headers.range ?? '') ?? [];
      const size = Number(to) - Number(from) + 1;
      response.writeHead(206, {
        'content-length': size,
        'content-range': `bytes ${from}-${to}/${pushed.layers[0]?.blob.length}`,
      });
      response.end(Buffer.alloc(size, 7));
    };
    lab.front.interfere(firstTimes(1, layerOf(pushed)), damage);
    expect(await image.read(file, 70_000, 10)).toEqual(data.subarray(70_000, 70_010));
    lab.front.interfere(layerOf(pushed), damage);
    await expect(image.read(file, 300_000, 10)).rejects.toMatchObject({
      code: 'ERR_IMAGE_READ',
      message: expect.stringMatching(/span|digest/),
    });
    await image.close();
  });
});

describe('reading through a registry that fails for good', () => {
  const faults: [string, Fault, RegExp][] = [
    ['404', answer(404), /404|not|unknown/i],
    ['403', answer(403), /403|denied/i],
    ['401', answer(401, { 'www-authenticate': 'Basic realm="x"' }), /401|unauthorized|credentials|login/i],
    ['500', answer(500), /500/],
    ['another range each time', otherRange, /bytes/i],
  ];
  it.each(faults)('fails with the reason: %s', async (_, fault, message) => {
    const { lab, pushed, image, file } = await lazyImage();
    const stop = lab.front.interfere(layerOf(pushed), fault);
    await expect(image.read(file, 0, 100)).rejects.toMatchObject({
      code: 'ERR_IMAGE_READ',
      message: expect.stringMatching(message),
    });
    stop();
    expect(await image.read(file, 0, 100)).toEqual(data.subarray(0, 100));
    await image.close();
  });

  it('ends a read that nobody answers at its deadline, while another layer is read', async () => {
    const lab = await ImageLab.start();
    const other = labLayer(tarOf({ path: 'g', data }));
    const pushed = await lab.push('1', [labLayer(tarOf({ path: 'f', data })), other]);
    await lab.pushIndex(pushed, { spanSize });
    const image = await (await lab.node({ readDeadlineMs: 3000 })).openImage(pushed.reference);
    const { children } = (await image.tree()).root;
    const [f, g] = [children.get(byteStringFromText('f')), children.get(byteStringFromText('g'))] as [
      TreeNode,
      TreeNode,
    ];
    lab.front.interfere(layerOf(pushed), stall);
    let ended = 0;
    const stalled = Promise.allSettled(
      Array.from({ length: 2000 }, (_, i) => image.read(f, (i * 300) % data.length, 10).finally(() => ended++)),
    );
    expect(Buffer.from(await image.read(g, 0, data.length)).equals(data)).toBe(true);
    expect(ended).toBe(0);
    const results = await stalled;
    expect(results.every(({ status }) => status === 'rejected')).toBe(true);
    await image.close();
  });

  it('says that the blob is shorter than its index', async () => {
    const { lab, pushed, image, file } = await lazyImage();
    const { descriptor, blob } = pushed.layers[0] ?? { descriptor: undefined, blob: Buffer.alloc(0) };
    const short = 200_000;
    lab.front.interfere(forBlob(descriptor?.digest ?? ''), (request, response) => {
      const [, from = '', to = ''] = /bytes=(\d+)-(\d+)/.exec(request.headers.range ?? '') ?? [];
      const end = Math.min(Number(to) + 1, short);
      if (Number(from) >= short) {
        response.writeHead(416, { 'content-range': `bytes */${short}` }).end();
        return;
      }
      response.writeHead(206, {
        'content-length': end - Number(from),
        'content-range': `bytes ${from}-${end - 1}/${short}`,
      });
      response.end(blob.subarray(Number(from), end));
    });
    expect(await image.read(file, 0, 100)).toEqual(data.subarray(0, 100));
    await expect(image.read(file, 190_000, 50_000)).rejects.toMatchObject({
      code: 'ERR_IMAGE_READ',
      message: expect.stringMatching(/200000|ends|short|range/),
    });
    await image.close();
  });
});

describe('opening an image at a registry that fails', () => {
  const garbage: Fault = (_request, response) =>
    response.writeHead(200, { 'content-type': 'application/json' }).end('{"a":');
  const faults: [string, Fault, RegExp][] = [
    ['404', answer(404), /^ERR_IMAGE_UNKNOWN$/],
    ['403', answer(403), /^ERR_IMAGE_DENIED$/],
    ['garbage', garbage, /^ERR_IMAGE_(CONTENT|UNREACHABLE)$/],
  ];
  it.each(faults)('names the image: %s', async (_, fault, code) => {
    const lab = await ImageLab.start();
    const pushed = await lab.push('1', [labLayer(tarOf({ path: 'f', data: 'x' }))]);
    lab.front.interfere(forManifests, fault);
    const opening = (await lab.node()).openImage(pushed.reference);
    await expect(opening).rejects.toMatchObject({
      code: expect.stringMatching(code),
      message: expect.stringContaining(pushed.reference),
    });
  });

  it('says which layer is not what the manifest says, and keeps nothing of it', async () => {
    const lab = await ImageLab.start();
    const pushed = await lab.push('1', [labLayer(tarOf({ path: 'f', data }), 'gzip')]);
    const { descriptor, blob } = pushed.layers[0] ?? {};
    const stop = lab.front.interfere(forBlob(descriptor?.digest ?? ''), (_request, response) => {
      const damaged = Buffer.from(blob ?? []);
      damaged[1000] = (damaged[1000] ?? 0) ^ 1;
      response.writeHead(200, { 'content-length': damaged.length }).end(damaged);
    });
    const node = await lab.node();
    await expect(node.openImage(pushed.reference)).rejects.toMatchObject({
      message: expect.stringContaining(descriptor?.digest ?? ''),
    });
    expect((await node.cacheEntries()).map(({ streamSize }) => streamSize)).not.toContain(pushed.layers[0]?.tar.length);
    stop();
    await (await node.openImage(pushed.reference)).close();
  });
});
