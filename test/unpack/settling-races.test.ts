// What is done behind an unpacked layer, while others open the same layer by an index of its image, read it, and remove it.
import { randomBytes } from 'node:crypto';
import { renameSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { rounds } from '../support/fixtures.ts';
import { labLayer } from '../support/image-lab.ts';
import { tarOf } from '../support/tar-members.ts';
import { UnpackLab } from '../support/unpack-lab.ts';

const { signal } = new AbortController();

describe('a layer that is kept behind its unpacking', () => {
  it('is right for who opens it lazily, and for who removes it, at the same time', async () => {
    const made = labLayer(tarOf({ path: 'a', data: randomBytes(400_000) }, { path: 'b', data: 'b' }), 'gzip');
    const { lab, image, node, unpacker, request } = await UnpackLab.ofLayer(made);
    await lab.lab.pushIndex(image, { spanSize: 32 << 10 });
    const open = async () => {
      await delay(Math.random() * 30);
      const opened = await node.openImage(image.reference);
      const [layer] = opened.openLayers;
      expect((await layer?.read(0, made.tar.length))?.equals(made.tar)).toBe(true);
      await opened.close();
    };
    const remove = async () => {
      await delay(Math.random() * 60);
      await node.removeCached('all');
    };
    for (let round = 0; round < rounds(100, 10, 0.1); round += 1) {
      const tree = await unpacker.unpackLayer(request, { signal });
      tree.claim((dir) => renameSync(dir, lab.path(`taken-${round}`)));
      await Promise.all([open(), open(), remove(), unpacker.idle()]);
      expect(unpacker.status().jobs).toEqual([]);
      // What all of them left is a layer, or none.
      await open();
      expect(node.state.layers.get(made.descriptor.digest)?.suspect).toBe(undefined);
      if (round % 2 === 0) await node.removeCached('all');
    }
  });
});
