// How an unpacker ends, and who goes on: the next process, another one beside it, and whoever asks again.
import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { bootId } from '../../src/image/process-identity.ts';
import { createLog } from '../../src/observe/log.ts';
import { JobBook } from '../../src/unpack/job-book.ts';
import { labLayer } from '../support/image-lab.ts';
import { eventually } from '../support/proxy-stack.ts';
import { tarOf } from '../support/tar-members.ts';
import { UnpackLab } from '../support/unpack-lab.ts';

const { signal } = new AbortController();
const data = randomBytes(900_000);
const layer = () => labLayer(tarOf({ path: 'first', data: 'first' }, { path: 'data', data }), 'none');
const chunk = { chunk_size: 100_000 };

/** The registry keeps everybody waiting who wants more than the first chunks. */
function stall({ lab }: UnpackLab): () => void {
  const held: (() => void)[] = [];
  const stop = lab.front.interfere(
    ({ headers }) => Number(/bytes=(\d+)/.exec(headers.range ?? '')?.[1] ?? 0) >= 300_000,
    (_request, _response, forward) => void held.push(() => forward()),
  );
  return () => {
    stop();
    for (const answer of held) answer();
  };
}

describe('an unpacker that is closed', () => {
  it('ends its jobs, gives their folders up, and takes no more', async () => {
    const { lab, node, unpacker, request } = await UnpackLab.ofLayer(layer(), chunk);
    stall(lab);
    const running = unpacker.unpackLayer(request, { signal });
    running.catch(() => {});
    await eventually(async () => lab.lab.front.bytes(request.descriptor.digest) >= 300_000, true);
    await Promise.all([unpacker.close(), unpacker.close()]);
    const closed = { code: 'ERR_UNPACK_CANCELLED', message: 'the unpacker is closed' };
    await expect(running).rejects.toMatchObject(closed);
    const [row, ...others] = node.state.unpackJobs.list();
    expect([row, others]).toMatchObject([{ state: 'cancelled', cause: 'peel stopped' }, []]);
    await expect(unpacker.unpackLayer(request, { signal })).rejects.toMatchObject(closed);
    expect(node.state.unpackJobs.list()).toHaveLength(1);
  });

  it('is waited for also while a job is only beginning', async () => {
    const { node, unpacker, request } = await UnpackLab.ofLayer(layer(), chunk);
    const running = unpacker.unpackLayer(request, { signal }).catch((error: unknown) => error);
    await unpacker.close();
    node.state.close();
    expect(await running).toMatchObject({ code: 'ERR_UNPACK_CANCELLED' });
  });

  it('is continued by the next one from the chunks that are whole', async () => {
    const { lab, node, unpacker: first, request } = await UnpackLab.ofLayer(layer(), chunk);
    const { digest, size } = request.descriptor;
    const release = stall(lab);
    const running = first.unpackLayer(request, { signal }).catch((error: unknown) => error);
    await eventually(async () => readFileSync(chunksOf(node.paths.root), 'utf8').split('\n').length > 3, true);
    await first.close();
    await running;
    release();
    lab.lab.front.forget();
    const second = await lab.unpacker(node, chunk);
    second.recover();
    const tree = await second.unpackLayer(request, { signal });
    expect(readFileSync(join(tree.dir, 'data'))).toEqual(data);
    expect(tree.job).toBe(node.state.unpackJobs.list()[0]?.job);
    expect(lab.lab.front.bytes(digest)).toBeLessThanOrEqual(size - 200_000);
  });

  it('lets who pushes an index know, and waits for him', async () => {
    const lab = await UnpackLab.start();
    const image = await lab.lab.push('1', [layer()]);
    const node = await lab.node();
    const unpacker = await lab.unpacker(node);
    let ended = false;
    const onBuilt = async (_: unknown, { signal: closing }: { signal: AbortSignal }) => {
      await delay(60_000, undefined, { signal: closing }).catch(() => {});
      ended = true;
      throw closing.reason;
    };
    await unpacker.unpackLayer({ ...(await lab.request(node, image)), onBuilt }, { signal });
    await delay(50);
    await unpacker.close();
    expect(ended).toBe(true);
  });
});

describe('an image', () => {
  it('is unpacked once more where the process ended before its layers were counted as taken', async () => {
    const lab = await UnpackLab.start();
    const image = await lab.lab.push('1', [layer()]);
    const node = await lab.node();
    const unpacker = await lab.unpacker(node, chunk);
    const { digest, size, mediaType } = (await lab.request(node, image)).descriptor;
    const { diffId } = await lab.request(node, image);
    const boot = await bootId();
    const book = new JobBook({ root: node.paths.root, table: node.state.unpackJobs, boot, log: createLog() });
    const job = { layer: digest, diffId, form: 'image', image: image.reference, size, mediaType } as const;
    (await book.begin(job)).finished({ implied: [], hiding: [] });
    book.close();
    const dir = await lab.unpackImage(unpacker, node, image);
    expect(readFileSync(join(dir, 'data'))).toEqual(data);
    await unpacker.idle();
    expect(node.state.unpackJobs.list()).toEqual([]);
  });
});

describe('a layer', () => {
  it('that takes longer than `unpack.expiry` ends as expired', async () => {
    const lab = await UnpackLab.start();
    const image = await lab.lab.push('1', [layer()]);
    const node = await lab.node();
    const unpacker = await lab.unpacker(node, { ...chunk, expiry: 700 });
    stall(lab);
    const limit = new AbortController();
    const late = setTimeout(() => limit.abort(new Error('it never expired')), 10_000);
    try {
      await expect(
        unpacker.unpackLayer(await lab.request(node, image), { signal: limit.signal }),
      ).rejects.toMatchObject({ code: 'ERR_UNPACK_EXPIRED', message: expect.stringContaining('700 ms') });
    } finally {
      clearTimeout(late);
    }
    expect(node.state.unpackJobs.list()).toMatchObject([{ state: 'expired', code: 'ERR_UNPACK_EXPIRED' }]);
    expect(unpacker.status()).toMatchObject({ downloads: { held: 0, waiting: 0 }, unpacks: { held: 0, waiting: 0 } });
    await unpacker.collect();
    expect(readdirSync(join(node.paths.root, 'unpack'))).toEqual([]);
  });

  it('that two processes unpack at once is each one’s own job', async () => {
    const lab = await UnpackLab.start();
    const image = await lab.lab.push('1', [layer()]);
    const node = await lab.node();
    const unpackers = [await lab.unpacker(node, chunk), await lab.unpacker(node, chunk)];
    const request = await lab.request(node, image);
    const trees = await Promise.all(unpackers.map((each) => each.unpackLayer(request, { signal })));
    expect(new Set(trees.map(({ job }) => job)).size).toBe(2);
    for (const { dir } of trees) expect(readFileSync(join(dir, 'data'))).toEqual(data);
    for (const each of unpackers) await each.collect();
    for (const { dir } of trees) expect(existsSync(dir)).toBe(true);
  });

  it('that nobody wants any more leaves its chunks, and no half tree', async () => {
    const { lab, node, unpacker, request } = await UnpackLab.ofLayer(layer(), chunk);
    stall(lab);
    const patience = new AbortController();
    const running = unpacker.unpackLayer(request, { signal: patience.signal });
    running.catch(() => {});
    await eventually(async () => readFileSync(chunksOf(node.paths.root), 'utf8').split('\n').length > 3, true);
    patience.abort(new Error('enough'));
    await expect(running).rejects.toThrow('enough');
    await eventually(async () => node.state.unpackJobs.list()[0]?.state, 'cancelled');
    expect(readdirSync(join(node.paths.root, 'unpack/1')).toSorted()).toEqual(['blob', 'chunks', 'lock']);
    expect(unpacker.status()).toMatchObject({ downloads: { held: 0, waiting: 0 }, unpacks: { held: 0, waiting: 0 } });
  });
});

function chunksOf(root: string): string {
  return join(root, 'unpack/1/chunks');
}
