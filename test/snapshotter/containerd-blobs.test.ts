// Layers read from and kept in the content store of Debian's containerd.
import path from 'node:path';
import { buffer } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ContainerdBlobs } from '../../src/snapshotter/containerd/containerd-blobs.ts';
import { Containerd } from '../support/containerd.ts';
import { content } from '../support/registry-content.ts';
import { keptTempDir } from '../support/tmp.ts';

describe("containerd's content store", () => {
  const work = keptTempDir('peel-ctrd-blobs-');
  const { signal } = new AbortController();
  const blob = content(5_000_000);
  let containerd: Containerd;
  const blobs = (namespace: string) => new ContainerdBlobs({ address: `${containerd.dir}/socket`, namespace });
  const opened = (bytes: Buffer) => async (offset: number) => ({
    body: (async function* () {
      yield bytes.subarray(offset);
    })(),
    close: () => {},
  });

  beforeAll(async () => {
    containerd = await Containerd.start({});
  });
  afterAll(async () => {
    await containerd.stop();
    work[Symbol.dispose]();
  });

  it('gives what containerd has, as a whole and in parts, and nothing else', async () => {
    const { size } = blob.descriptor;
    await blobs('default').keep(blob.descriptor, opened(blob.bytes), { signal });
    const found = await blobs('default').find(blob.descriptor, { signal });
    expect(await buffer((await found!.readAll()).body)).toEqual(blob.bytes);
    expect(await buffer((await found!.readRange(70_000, 2_000_001)).body)).toEqual(
      blob.bytes.subarray(70_000, 2_000_001),
    );
    expect(await buffer((await found!.readRange(size - 1, size + 9)).body)).toEqual(blob.bytes.subarray(-1));
    expect((await buffer((await found!.readRange(size, size + 9)).body)).byteLength).toBe(0);
    expect(await blobs('other').find(blob.descriptor, { signal })).toBeUndefined();
    expect(await blobs('default').find({ ...blob.descriptor, size: size + 1 }, { signal })).toBeUndefined();
  });

  it('keeps a layer where ctr finds it, also one that it had half of', async () => {
    const layer = content(3_000_000);
    await blobs('kept').keep(layer.descriptor, opened(layer.bytes), { signal });
    await blobs('kept').keep(layer.descriptor, opened(layer.bytes), { signal });
    const found = await blobs('kept').find(layer.descriptor, { signal });
    expect(await buffer((await found!.readAll()).body)).toEqual(layer.bytes);
    // Its collector, which runs now, lets it be.
    await containerd.ctrIn('kept', 'leases', 'create', '--id', 'other');
    await containerd.ctrIn('kept', 'leases', 'delete', '--sync', 'other');
    expect(await blobs('kept').find(layer.descriptor, { signal })).toBeDefined();
  });

  it('refuses bytes that are not the layer, and says when nobody is there', async () => {
    const layer = content(10_000);
    const wrong = Buffer.from(layer.bytes).fill(1, 5, 9);
    await expect(blobs('kept').keep(layer.descriptor, opened(wrong), { signal })).rejects.toMatchObject({
      code: expect.stringMatching(/^ERR_CONTAINERD_/),
    });
    expect(await blobs('kept').find(layer.descriptor, { signal })).toBeUndefined();
    const nobody = new ContainerdBlobs({ address: path.join(work.path, 'none'), namespace: 'default' });
    await expect(nobody.find(layer.descriptor, { signal })).rejects.toMatchObject({
      code: 'ERR_CONTAINERD_UNREACHABLE',
    });
  });
});
