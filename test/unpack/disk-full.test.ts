// A state directory on a small disk: what does not fit is refused before it begins, or gives its room back, and all is well afterwards.
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, readdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Node } from '../../src/daemon/node.ts';
import { labLayer } from '../support/image-lab.ts';
import { mountPoint } from '../support/mounted.ts';
import { canMount } from '../support/peel-node.ts';
import { run, runOk } from '../support/run.ts';
import { tarOf } from '../support/tar-members.ts';
import { UnpackLab } from '../support/unpack-lab.ts';
import type { UnpackConfig } from '../support/unpack-lab.ts';

const { signal } = new AbortController();
const mib = 1 << 20;
const ways = ['layer', 'image'] as const;

async function world(diskMib: number, config: UnpackConfig = {}) {
  const lab = await UnpackLab.start();
  const disk = mountPoint();
  await runOk('mount', ['-t', 'tmpfs', '-o', `size=${diskMib}m`, 'tmpfs', disk]);
  const root = join(disk, 'root');
  mkdirSync(root);
  const node: Node = await lab.node({ root });
  const made = labLayer(tarOf({ path: 'file', data: randomBytes(3 * mib) }), 'gzip');
  const image = await lab.lab.push('1', [made]);
  const unpacker = await lab.unpacker(node, { chunk_size: 256 << 10, ...config });
  const unpack = async (way: (typeof ways)[number]) => {
    if (way === 'image') {
      const dir = join(disk, 'image');
      await lab.unpackImage(unpacker, node, image, { dir });
      return dir;
    }
    return (await unpacker.unpackLayer(await lab.request(node, image), { signal })).dir;
  };
  const free = () => {
    const { bavail, bsize } = statfsSync(disk);
    return bavail * bsize;
  };
  return { lab, disk, node, unpacker, made, unpack, free };
}

describe.skipIf(!canMount).each(ways)('a disk that is full (%s)', (way) => {
  it('before the start', async () => {
    const w = await world(64, { reserve: 60 * mib });
    w.lab.lab.front.forget();
    await expect(w.unpack(way)).rejects.toMatchObject({
      code: 'ERR_UNPACK_SPACE',
      message: expect.stringMatching(/\d+ bytes are free, \d+ are needed and 62914560 are to stay free/),
    });
    expect(w.lab.lab.front.seen('/blobs/sha256')).toEqual([]);
    expect(w.unpacker.status().jobs).toMatchObject([{ state: 'failed', cause: expect.stringContaining('too little') }]);
    expect(readdirSync(w.disk)).toEqual(['root']);
  });

  it('in the middle, and is not any more afterwards', async () => {
    const w = await world(24);
    const before = w.free();
    // The space is there when it is asked for, and taken before all of it is used.
    const stop = w.lab.lab.front.interfere(
      (request) => (request.url ?? '').includes(`/blobs/${w.made.descriptor.digest}`),
      (_request, _response, forward) => {
        fillUp(w.disk, w.free());
        forward();
      },
    );
    await expect(w.unpack(way)).rejects.toMatchObject({
      code: 'ERR_UNPACK_DISK',
      message: expect.stringMatching(/ENOSPC|no space|full/i),
    });
    stop();
    rmSync(join(w.disk, 'ballast'));
    // What was downloaded and unpacked has not stayed in the way of others.
    expect(before - w.free()).toBeLessThan(mib);
    expect(readdirSync(w.disk)).toEqual(['root']);
    const { unpacks, downloads } = w.unpacker.status();
    expect([unpacks.held, downloads.held]).toEqual([0, 0]);
    const dir = await w.unpack(way);
    expect(readFileSync(join(dir, 'file')).length).toBe(3 * mib);
    await w.unpacker.idle();
    expect(w.unpacker.status().jobs.map(({ state }) => state)).toEqual(way === 'layer' ? ['done'] : []);
  });
});

it.skipIf(!canMount)('a disk of which nothing can be unmounted any more would show who holds on to it', async () => {
  const w = await world(64);
  await w.unpack('image');
  await w.unpacker.close();
  await w.node.close();
  expect((await run('umount', [w.disk])).err).toBe('');
});

/** All but what the database needs to write that it failed. */
function fillUp(disk: string, free: number): void {
  const room = 300_000;
  if (free > room) writeFileSync(join(disk, 'ballast'), Buffer.alloc(free - room), { flag: 'a' });
}
