import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import type { Image } from '../../src/image/image.ts';
import type { TreeNode } from '../../src/tree/tree.ts';
import { byteStringFromText } from '../../src/util/byte-string.ts';
import { ImageLab, labLayer } from '../support/image-lab.ts';
import { tarOf } from '../support/tar-members.ts';

const mib = 1 << 20;
const spanSize = 256 << 10;
const data = randomBytes(4 * mib);
const small = randomBytes(10_000);
const layer = () =>
  labLayer(tarOf({ path: 'before', data: randomBytes(mib) }, { path: 'big', data }, { path: 'small', data: small }));

async function fileOf(image: Image, name: string): Promise<TreeNode> {
  const node = (await image.tree()).root.children.get(byteStringFromText(name));
  if (node === undefined) throw new Error(`no ${name}`);
  return node;
}

describe('a lazily read image', () => {
  it('fetches only the spans of what is read', async () => {
    const lab = await ImageLab.start();
    const pushed = await lab.push('1', [layer()]);
    await lab.pushIndex(pushed, { spanSize });
    const node = await lab.node();
    const image = await node.openImage(pushed.reference);
    expect(image.warnings).toEqual([]);
    expect(image.layers()[0]).toMatchObject({ serving: 'lazy', presentSpans: 0, index: { format: 'soci-v1' } });
    lab.front.forget();
    expect(await image.read(await fileOf(image, 'small'), 0, 20_000)).toEqual(small);
    const layerDigest = pushed.layers[0]?.descriptor.digest ?? '';
    expect(lab.front.bytes(layerDigest)).toBeLessThanOrEqual(2 * spanSize);
    expect(lab.front.requests).toHaveLength(1);
    const chunks: Uint8Array[] = [];
    for await (const chunk of image.stream(await fileOf(image, 'big'))) chunks.push(chunk);
    expect(Buffer.concat(chunks).equals(data)).toBe(true);
    expect(lab.front.bytes(layerDigest)).toBeLessThanOrEqual(4 * mib + 3 * spanSize);
    await image.close();
  });

  it('asks once for a span that 64 readers want', async () => {
    const lab = await ImageLab.start();
    const pushed = await lab.push('1', [layer()]);
    await lab.pushIndex(pushed, { spanSize });
    const image = await (await lab.node()).openImage(pushed.reference);
    const file = await fileOf(image, 'small');
    lab.front.forget();
    const reads = await Promise.all(Array.from({ length: 64 }, (_, i) => image.read(file, i, 100)));
    reads.forEach((bytes, i) => expect(bytes).toEqual(small.subarray(i, i + 100)));
    expect(lab.front.requests).toHaveLength(1);
    await image.close();
  });

  it('becomes complete when the last span lands, and needs no registry then', async () => {
    const lab = await ImageLab.start();
    const pushed = await lab.push('1', [layer()]);
    await lab.pushIndex(pushed, { spanSize });
    const node = await lab.node();
    const image = await node.openImage(pushed.reference);
    for (const name of ['before', 'big', 'small']) await image.read(await fileOf(image, name), 0, 8 * mib);
    await expect.poll(() => image.layers()[0]?.serving).toBe('complete');
    await image.close();
    await lab.front.close();
    const again = await node.openImage(pushed.byDigest);
    expect(await again.read(await fileOf(again, 'big'), 5, 100)).toEqual(data.subarray(5, 105));
    await again.close();
  });

  it('is opened again without a request by digest, and with one HEAD by tag', async () => {
    const lab = await ImageLab.start();
    const pushed = await lab.push('1', [layer()]);
    await lab.pushIndex(pushed, { spanSize });
    const node = await lab.node();
    await (await node.openImage(pushed.reference)).close();
    lab.front.forget();
    await (await node.openImage(pushed.byDigest)).close();
    expect(lab.front.requests).toEqual([]);
    await (await node.openImage(pushed.reference)).close();
    expect(lab.front.requests.map(({ method }) => method)).toEqual(['HEAD']);
    await (await node.openImage(pushed.reference, { pull: 'missing' })).close();
    await (await node.openImage(pushed.reference, { pull: 'never' })).close();
    expect(lab.front.requests).toHaveLength(1);
  });

  it('is opened as it was last known when the registry is down, and says so', async () => {
    const lab = await ImageLab.start();
    const pushed = await lab.push('1', [layer()]);
    await lab.pushIndex(pushed, { spanSize });
    const node = await lab.node();
    await (await node.openImage(pushed.reference)).close();
    await lab.front.close();
    const image = await node.openImage(pushed.reference);
    expect(image.digest).toBe(pushed.digest);
    expect(image.warnings).toEqual([expect.stringContaining(pushed.digest)]);
    await image.close();
  });

  it('keeps a layer of two references once', async () => {
    const lab = await ImageLab.start();
    const shared = layer();
    const first = await lab.push('1', [shared]);
    const second = await lab.push('2', [shared, labLayer(tarOf({ path: 'more', data: 'x' }))]);
    await lab.pushIndex(first, { spanSize });
    await lab.pushIndex(second, { spanSize });
    const node = await lab.node();
    const one = await node.openImage(first.reference);
    await one.read(await fileOf(one, 'small'), 0, 10);
    const two = await node.openImage(second.reference);
    lab.front.forget();
    expect(await two.read(await fileOf(two, 'small'), 0, 10)).toEqual(small.subarray(0, 10));
    expect(lab.front.requests).toEqual([]);
    await one.close();
    await two.close();
  });
});
