import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { noise } from '../index/layers.ts';
import { labLayer } from '../support/image-lab.ts';
import { offering, peelLayer } from '../support/peel-layer.ts';
import { tarOf } from '../support/tar-members.ts';
import { UnpackLab } from '../support/unpack-lab.ts';

const data = Buffer.from(`${noise(200_000).toString('hex')}${noise(150_000).toString('hex')}`);

/** A node that has a span of the layer by a peel table. */
async function lazily() {
  const layer = labLayer(tarOf({ path: 'a', data, mode: 0o4750 }, { path: 'b', data: randomBytes(70_000) }), 'gzip');
  const made = await peelLayer(layer, { spanSize: 64 << 10 });
  const windows = made.windows?.content;
  if (windows === undefined) throw new Error('it needs windows');
  const lab = await UnpackLab.start();
  const image = await lab.lab.push('1', [layer]);
  const { registry, repository, front } = lab.lab;
  await registry.pushBlob(repository, windows.descriptor, () => Readable.from([windows.bytes]));
  const node = await lab.node();
  await lab.openLazily(node, image, 0, { findIndex: offering(made.index) }, (opened) => opened.read(300_000, 10));
  const unpack = async () => {
    const unpacker = await lab.unpacker(node);
    const dir = await lab.take(unpacker, await lab.request(node, image));
    expect(readFileSync(join(dir, 'a')).equals(data)).toBe(true);
    await unpacker.idle();
    return node.state.layers.get(layer.descriptor.digest);
  };
  return { lab, unpack, windows, front, layer };
}

describe('a layer that is known by a peel index', () => {
  it('is unpacked by it, with few windows or none', async () => {
    const { unpack, windows, front } = await lazily();
    expect((await unpack())?.indexFormat).toBe('peel');
    // Of the span that was read, which begins in the middle of the layer.
    expect(front.seen(windows.descriptor.digest)).toHaveLength(1);
  });

  it('is unpacked when the windows are gone', async () => {
    const { lab, unpack, windows, front, layer } = await lazily();
    await lab.lab.registry.deleteBlob(lab.lab.repository, windows.descriptor.digest);
    front.forget();
    await unpack();
    expect(front.seen(layer.descriptor.digest).length).toBeGreaterThan(0);
  });
});
