// What several who want layers at the same time have in common: jobs, leases, and what is left when some of them go away.
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import type { NodeUnpacker } from '../../src/unpack/node-unpacker.ts';
import type { UnpackLimits } from '../../src/unpack/unpacker.ts';
import { forBlob, heldBack, stall } from '../support/faults.ts';
import { labLayer } from '../support/image-lab.ts';
import { eventually, openFilesBelow } from '../support/proxy-stack.ts';
import { tarOf } from '../support/tar-members.ts';
import { UnpackLab } from '../support/unpack-lab.ts';

const { signal } = new AbortController();
const size = 500_000;
const chunk_size = 65_536;
/** Uncompressed, so that all of it has to come. */
const layer = (name: string) => labLayer(tarOf({ path: name, data: randomBytes(size) }), 'none');
const limits = (downloads: number, unpacks: number): UnpackLimits => ({
  downloads: { perNode: downloads, perImage: downloads },
  unpacks: { perNode: unpacks, perImage: unpacks },
});

function expectNoLeases(unpacker: NodeUnpacker): void {
  const { unpacks, downloads } = unpacker.status();
  expect([unpacks.held, unpacks.waiting, downloads.held, downloads.waiting]).toEqual([0, 0, 0, 0]);
}

describe('two images', () => {
  it('take turns, however many layers one of them has', async () => {
    const lab = await UnpackLab.start();
    const many = await lab.lab.push('many', ['a', 'b', 'c', 'd', 'e'].map(layer), 'lab/many');
    const few = await lab.lab.push('few', [layer('f')], 'lab/few');
    const node = await lab.node();
    const unpacker = await lab.unpacker(node, { chunk_size, per_node: 1, per_image: 1 });
    const ended: string[] = [];
    const unpack = async (image: typeof many, i: number, name: string) => {
      await unpacker.unpackLayer(await lab.request(node, image, i), { signal });
      ended.push(name);
    };
    const first = many.layers.map((_, i) => unpack(many, i, 'many'));
    await eventually(async () => unpacker.status().unpacks.waiting, 4);
    await Promise.all([...first, unpack(few, 0, 'few')]);
    // Not the last: it had the turn after the one that ran.
    expect(ended.indexOf('few')).toBeLessThan(3);
    expectNoLeases(unpacker);
  });

  it('use what they may when the limits change', async () => {
    const lab = await UnpackLab.start();
    const layers = ['a', 'b', 'c', 'd'].map(layer);
    const image = await lab.lab.push('1', layers);
    const node = await lab.node();
    const unpacker = await lab.unpacker(node, { chunk_size, per_node: 1, per_image: 1 }, { per_node: 1, per_image: 1 });
    const line = stall();
    const stop = lab.lab.front.interfere((request) => (request.url ?? '').includes('/blobs/'), line.fault);
    const all = image.layers.map(async (_, i) => unpacker.unpackLayer(await lab.request(node, image, i), { signal }));
    await eventually(async () => unpacker.status().unpacks, { limit: 1, perImage: 1, held: 1, waiting: 3 });
    await eventually(async () => unpacker.status().downloads, { limit: 1, perImage: 1, held: 1, waiting: 1 });
    unpacker.setLimits(limits(3, 4));
    await eventually(async () => unpacker.status().unpacks, { limit: 4, perImage: 4, held: 4, waiting: 0 });
    await eventually(async () => unpacker.status().downloads.held, 3);
    unpacker.setLimits(limits(2, 1));
    expect(unpacker.status().unpacks).toMatchObject({ limit: 1, held: 4 });
    stop();
    line.release();
    await Promise.all(all);
    expectNoLeases(unpacker);
  });
});

describe('a layer that is cancelled in the middle', () => {
  it.each(['layer', 'image'] as const)(
    'leaves its chunks and nothing else, and goes on from there (%s)',
    async (way) => {
      const lab = await UnpackLab.start();
      const made = layer('a');
      const image = await lab.lab.push('1', [made]);
      const node = await lab.node();
      const unpacker = await lab.unpacker(node, { chunk_size });
      const held = heldBack({ bytes: made.blob }, size >> 1);
      const stop = lab.lab.front.interfere(forBlob(made.descriptor.digest), held.fault);
      const controller = new AbortController();
      const work = async (on: AbortSignal) =>
        way === 'image'
          ? await lab.unpackImage(unpacker, node, image, { signal: on })
          : await lab.take(unpacker, await lab.request(node, image), on);
      const cancelled = work(controller.signal);
      await eventually(async () => (unpacker.status().jobs[0]?.done ?? 0) > size / 3, true);
      controller.abort(new Error('not wanted'));
      await expect(cancelled).rejects.toThrow('not wanted');
      await eventually(async () => unpacker.status().jobs, [expect.objectContaining({ state: 'cancelled' })]);
      expectNoLeases(unpacker);
      const jobs = join(node.paths.root, 'unpack');
      const [folder = ''] = readdirSync(jobs);
      expect(readdirSync(join(jobs, folder)).toSorted()).toEqual(['blob', 'chunks', 'lock']);
      expect(openFilesBelow(jobs)).toEqual([]);
      expect(readdirSync(lab.lab.dir)).toEqual(['node-0']);
      stop();
      held.release();
      lab.lab.front.forget();
      const dir = await work(signal);
      expect(readFileSync(join(dir, 'a')).length).toBe(size);
      const fetched = lab.lab.front.bytes('/blobs/');
      expect(fetched).toBeGreaterThan(0);
      expect(fetched).toBeLessThan(0.8 * made.blob.length);
      // It was the same job.
      await unpacker.idle();
      expect(readdirSync(jobs)).toEqual([]);
    },
  );

  it('and asked for again at once goes on with the same job', async () => {
    const lab = await UnpackLab.start();
    const made = layer('a');
    const image = await lab.lab.push('1', [made]);
    const node = await lab.node();
    const unpacker = await lab.unpacker(node, { chunk_size });
    const held = heldBack({ bytes: made.blob }, size >> 1);
    const stop = lab.lab.front.interfere(forBlob(made.descriptor.digest), held.fault);
    const request = await lab.request(node, image);
    const controller = new AbortController();
    const cancelled = unpacker.unpackLayer(request, { signal: controller.signal }).catch(() => 'cancelled');
    await eventually(async () => (unpacker.status().jobs[0]?.done ?? 0) > size / 3, true);
    controller.abort();
    expect(await cancelled).toBe('cancelled');
    expect(unpacker.status().jobs).toMatchObject([{ state: 'in_progress' }]);
    stop();
    held.release();
    const tree = await unpacker.unpackLayer(request, { signal });
    expect(unpacker.status().jobs.map(({ job, state }) => [job, state])).toEqual([[tree.job, 'done']]);
  });

  it('goes on for those who still wait', async () => {
    const lab = await UnpackLab.start();
    const made = layer('a');
    const image = await lab.lab.push('1', [made]);
    const node = await lab.node();
    const unpacker = await lab.unpacker(node, { chunk_size });
    const held = heldBack({ bytes: made.blob }, size >> 1);
    const stop = lab.lab.front.interfere(forBlob(made.descriptor.digest), held.fault);
    const request = await lab.request(node, image);
    const controller = new AbortController();
    const [goes, stays] = [controller.signal, signal].map((each) => unpacker.unpackLayer(request, { signal: each }));
    await eventually(async () => (unpacker.status().jobs[0]?.done ?? 0) > size / 3, true);
    controller.abort(new Error('not wanted'));
    await expect(goes).rejects.toThrow('not wanted');
    stop();
    held.release();
    expect(readFileSync(join((await stays)?.dir ?? '', 'a')).length).toBe(size);
    expect(unpacker.status().jobs.length).toBe(1);
  });

  it('when the unpacker is closed, which waits for it', async () => {
    const lab = await UnpackLab.start();
    const made = layer('a');
    const image = await lab.lab.push('1', [made, layer('b')]);
    const node = await lab.node();
    const unpacker = await lab.unpacker(node, { chunk_size });
    const line = stall();
    lab.lab.front.interfere(forBlob(made.descriptor.digest), line.fault);
    const requests = [await lab.request(node, image), await lab.request(node, image, 1)];
    const works = [
      ...requests.map((request) => unpacker.unpackLayer(request, { signal })),
      lab.unpackImage(unpacker, node, image),
    ].map((work) => work.then(() => 'done').catch((error: Error & { code?: string }) => error.code));
    // Some have begun their jobs, and some are about to.
    await delay(Math.random() * 20);
    await unpacker.close();
    expect(new Set(await Promise.all(works))).toEqual(new Set(['ERR_UNPACK_CANCELLED']));
    expect(node.state.unpackJobs.list().filter(({ state }) => state === 'in_progress')).toEqual([]);
    expect(readdirSync(lab.lab.dir)).toEqual(['node-0']);
    expect(openFilesBelow(join(node.paths.root, 'unpack'))).toEqual([]);
    await expect(unpacker.unpackLayer(requests[0] as never, { signal })).rejects.toMatchObject({
      code: 'ERR_UNPACK_CANCELLED',
    });
  });
});

describe('a tree', () => {
  it('that two wait for is settled for the one who takes it, and made anew for the other', async () => {
    const { lab, node, unpacker, request } = await UnpackLab.ofLayer(layer('a'));
    const taken = await Promise.all(
      [lab.take(unpacker, request), lab.take(unpacker, request)].map((work) =>
        work.catch((error: Error & { code?: string }) => error.code),
      ),
    );
    const dirs = taken.filter((each) => each !== 'ERR_UNPACK_NOT_CLAIMABLE');
    expect(dirs.length).toBeGreaterThan(0);
    await unpacker.idle();
    expect(unpacker.status().jobs).toEqual([]);
    expect(readdirSync(join(node.paths.root, 'unpack'))).toEqual([]);
  });

  it('that was taken is settled though somebody asks for it in the same breath', async () => {
    const { lab, unpacker, request } = await UnpackLab.ofLayer(layer('a'));
    const tree = await unpacker.unpackLayer(request, { signal });
    tree.claim((from) => renameSync(from, lab.path('taken')));
    const next = await unpacker.unpackLayer(request, { signal });
    expect(next.job).not.toBe(tree.job);
    await unpacker.idle();
    expect(unpacker.status().jobs.map(({ job, state }) => [job, state])).toEqual([[next.job, 'done']]);
  });

  it('that somebody moved and did not take is made anew', async () => {
    const { lab, unpacker, request } = await UnpackLab.ofLayer(layer('a'));
    const tree = await unpacker.unpackLayer(request, { signal });
    const failing = () =>
      tree.claim((from) => {
        renameSync(from, lab.path('lost'));
        throw new Error('changed my mind');
      });
    expect(failing).toThrow('changed my mind');
    rmSync(lab.path('lost'), { recursive: true });
    const again = await lab.take(unpacker, request);
    expect(readFileSync(join(again, 'a')).length).toBe(size);
    await unpacker.idle();
    expect(unpacker.status().jobs).toEqual([]);
  });
});

describe('a job expires', () => {
  it('while it runs', async () => {
    const lab = await UnpackLab.start();
    const image = await lab.lab.push('1', [layer('a')]);
    const node = await lab.node();
    const unpacker = await lab.unpacker(node, { chunk_size, expiry: 400 });
    const line = stall();
    const stop = lab.lab.front.interfere((request) => (request.url ?? '').includes('/blobs/'), line.fault);
    const request = await lab.request(node, image);
    await expect(unpacker.unpackLayer(request, { signal })).rejects.toMatchObject({
      code: 'ERR_UNPACK_EXPIRED',
      message: expect.stringContaining(request.descriptor.digest),
    });
    expect(unpacker.status().jobs).toMatchObject([{ state: 'expired' }]);
    expectNoLeases(unpacker);
    await unpacker.collect();
    expect(readdirSync(join(node.paths.root, 'unpack'))).toEqual([]);
    stop();
    line.release();
    expect(existsSync(await lab.take(unpacker, request))).toBe(true);
  });

  it('when it is done and nobody wants it', async () => {
    const { unpacker, request } = await UnpackLab.ofLayer(layer('a'), { expiry: 3_000 });
    const tree = await unpacker.unpackLayer(request, { signal });
    await unpacker.collect();
    expect(existsSync(tree.dir)).toBe(true);
    await delay(3_100);
    await unpacker.collect();
    expect(existsSync(tree.dir)).toBe(false);
    expect(unpacker.status().jobs).toMatchObject([{ state: 'expired', cause: expect.any(String) }]);
    expect(() => tree.claim(() => {})).toThrow(expect.objectContaining({ code: 'ERR_UNPACK_EXPIRED' }));
    const again = await unpacker.unpackLayer(request, { signal });
    expect(again.job).not.toBe(tree.job);
  });
});
