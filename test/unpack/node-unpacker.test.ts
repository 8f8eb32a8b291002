import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { everything, stall } from '../support/faults.ts';
import { labLayer } from '../support/image-lab.ts';
import { eventually } from '../support/proxy-stack.ts';
import { tarOf } from '../support/tar-members.ts';
import { UnpackLab } from '../support/unpack-lab.ts';

const { signal } = new AbortController();
const data = randomBytes(300_000);
const tar = () =>
  tarOf(
    { path: 'etc', type: 'dir', mode: 0o750 },
    { path: 'etc/hosts', data: 'localhost\n' },
    { path: 'usr/bin/big', data, mode: 0o4755 },
    { path: '.wh.old' },
  );

describe('a layer', () => {
  it.each(['none', 'gzip', 'zstd'] as const)(
    'of kind %s is unpacked from the registry, once for all who ask',
    async (kind) => {
      const lab = await UnpackLab.start();
      const image = await lab.lab.push('1', [labLayer(tar(), kind)]);
      const node = await lab.node();
      const unpacker = await lab.unpacker(node, { chunk_size: 65_536 });
      const request = await lab.request(node, image);
      const [tree, same] = await Promise.all([
        unpacker.unpackLayer(request, { signal }),
        unpacker.unpackLayer(request, { signal }),
      ]);
      expect(same.job).toBe(tree.job);
      expect(tree.implied).toEqual(['', 'usr', 'usr/bin']);
      expect(readFileSync(join(tree.dir, 'usr/bin/big'))).toEqual(data);
      expect(statSync(join(tree.dir, 'usr/bin/big')).mode & 0o7777).toBe(0o4755);
      expect(statSync(join(tree.dir, 'old')).isCharacterDevice()).toBe(true);
      expect(unpacker.status().jobs).toMatchObject([{ state: 'done', image: image.reference, cause: undefined }]);
      const place = lab.path('taken');
      mkdirSync(place);
      tree.claim((dir) => renameSync(dir, place));
      expect(() => same.claim(() => {})).toThrow(expect.objectContaining({ code: 'ERR_UNPACK_NOT_CLAIMABLE' }));
      expect(readdirSync(place).toSorted()).toEqual(['etc', 'old', 'usr']);
      // Behind it: the block cache and the compressed layer.
      await eventually(async () => unpacker.status().jobs, []);
      const { digest } = request.descriptor;
      expect(node.state.layers.get(digest)).toMatchObject({
        indexFormat: 'node',
        mediaType: request.descriptor.mediaType,
      });
      expect(readFileSync(join(node.paths.root, 'compressed/sha256', digest.slice(7)))).toEqual(image.layers[0]?.blob);
      // The next one needs no registry.
      await lab.lab.front.close();
      const again = await unpacker.unpackLayer(request, { signal });
      expect(again.job).not.toBe(tree.job);
      expect(readFileSync(join(again.dir, 'usr/bin/big'))).toEqual(data);
      const opened = await node.openImage(image.byDigest, { pull: 'missing' }).catch(() => undefined);
      await opened?.close();
      expect(existsSync(join(again.dir, 'old'))).toBe(true);
    },
  );

  it('is settled only when nobody waits for another one', async () => {
    const lab = await UnpackLab.start();
    const image = await lab.lab.push('1', [labLayer(tar(), 'gzip'), labLayer(tarOf({ path: 'slow', data }), 'gzip')]);
    const node = await lab.node();
    const unpacker = await lab.unpacker(node);
    const first = await unpacker.unpackLayer(await lab.request(node, image), { signal });
    const line = stall();
    lab.lab.front.interfere(everything, line.fault);
    const leaving = new AbortController();
    const second = unpacker.unpackLayer(await lab.request(node, image, 1), { signal: leaving.signal });
    second.catch(() => {});
    await expect.poll(() => unpacker.status().jobs.length).toBe(2);
    const place = lab.path('first');
    mkdirSync(place);
    first.claim((dir) => renameSync(dir, place));
    await delay(700);
    expect(unpacker.status().jobs[0]).toMatchObject({ job: first.job, state: 'claimed' });
    leaving.abort();
    line.release();
    await expect.poll(() => unpacker.status().jobs.map(({ job }) => job), { timeout: 20_000 }).not.toContain(first.job);
  });
});
