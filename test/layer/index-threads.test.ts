// Jobs on indexes, in threads of dist/ and in this one.
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import type { Worker } from 'node:worker_threads';
import { describe, expect, it, onTestFinished } from 'vitest';
import { LayerTrees } from '../../src/image/layer-trees.ts';
import { openNodeIndex } from '../../src/index/node-index.ts';
import { errorCode } from '../../src/layer/errors.ts';
import type { IndexJob, PreparedIndex, TableJob, ZtocJob } from '../../src/layer/index-job.ts';
import { runIndexJob } from '../../src/layer/run-index-job.ts';
import { writeWhole } from '../../src/util/write-whole.ts';
import { foreignIndex } from '../support/foreign-index.ts';
import { type LabLayer, labLayer, sha256 } from '../support/image-lab.ts';
import { peelTableOf } from '../support/peel-table.ts';
import { describeShort, type Short } from '../support/short-layers.ts';
import { tarOf } from '../support/tar-members.ts';
import { tempDir } from '../support/tmp.ts';

const face = new URL('../../dist/layer/index-threads.js', import.meta.url).href;
const { IndexThreads } = (await import(face)) as typeof import('../../src/layer/index-threads.ts');

const spanSize = 64 << 10;
const patient = new AbortController().signal;

function layerOf(...entries: Short[]): LabLayer {
  return labLayer(tarOf(...entries.map(describeShort)), 'gzip');
}

const base = { base: true, userXattr: false };

async function tableJob(layer: LabLayer, tree: TableJob['tree'] = base): Promise<TableJob> {
  const { table, windows } = await peelTableOf(layer, spanSize);
  const { digest, size, mediaType } = layer.descriptor;
  return {
    kind: 'table',
    table,
    descriptor: { digest, size, mediaType },
    diffId: layer.diffId,
    windows: windows && { digest: sha256(windows), size: windows.length, from: 'lab/layers' },
    provenance: { format: 'peel', indexDigest: sha256(table), source: 'lab' },
    tree,
  };
}

async function longJob(): Promise<TableJob> {
  return await tableJob(layerOf('d/', ...Array.from({ length: 3000 }, (_, i) => `d/${i}`)));
}

function threads(options: { keepMs?: number; heapBytes?: number | undefined } = {}) {
  const made = new IndexThreads({ keepMs: 5000, ...options });
  onTestFinished(() => made.close());
  return made;
}

/** Those that start until the test ends. */
function startedThreads(): Worker[] {
  const started: Worker[] = [];
  const onWorker = (worker: Worker): void => void started.push(worker);
  process.on('worker', onWorker);
  onTestFinished(() => void process.off('worker', onWorker));
  return started;
}

async function isOnline(started: readonly Worker[], which: number): Promise<void> {
  // That it was started is said a moment later.
  await setImmediate();
  await once(started[which] as Worker, 'online');
}

/** The bytes with the checksum at their end that belongs to them. */
function summed(table: Uint8Array, change: (table: Buffer) => void): Uint8Array {
  const changed = Buffer.from(table);
  change(changed);
  const body = changed.subarray(0, -32);
  return Buffer.concat([body, createHash('sha256').update(body).digest()]);
}

const failure = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => 'no failure',
    (error: unknown) => ({ code: errorCode(error), message: (error as Error).message }),
  );

describe('IndexThreads', () => {
  it('makes index files and trees of several layers at once, as this thread does', async () => {
    const pool = threads();
    const started = startedThreads();
    const layers = [layerOf('a/', 'a/b', 'c -> a'), layerOf('x/', 'x/.wh.gone', 'x/.wh..wh..opq'), layerOf('z')];
    const jobs = [
      ...(await Promise.all(layers.map((layer) => tableJob(layer)))),
      await tableJob(layerOf('d/', 'd/e'), { base: false, userXattr: true }),
      // Its parent is whatever the layers below have.
      await tableJob(layerOf('d/e'), { base: false, userXattr: false }),
    ];
    const made = await Promise.all(jobs.map((job) => pool.run(job, patient)));
    expect(started).toHaveLength(2);
    for (const [i, job] of jobs.entries()) {
      const here = await runIndexJob(job);
      expect(Buffer.compare(made[i]?.file ?? Buffer.of(), here.file), `file of job ${i}`).toBe(0);
      expect(made[i]?.fingerprint).toEqual(here.fingerprint);
      expect(made[i]?.tree?.root).toEqual(here.tree?.root);
      expect(made[i]?.tree === undefined, `tree of job ${i}`).toBe(i === jobs.length - 1);
      expect(Buffer.compare(made[i]?.tree?.image ?? Buffer.of(), here.tree?.image ?? Buffer.of())).toBe(0);
    }
    // The caller's bytes are still his.
    expect(jobs[0]?.table.length).toBeGreaterThan(100);
  });

  it('makes the tree that one would compile of the index file', async () => {
    const pool = threads();
    const job = await tableJob(layerOf({ path: './', type: 'dir', mode: 0o710 }, 'a/', 'a/b', 'a/c = a/b', 'l -> a'));
    const { file, fingerprint, tree } = await pool.run(job, patient);
    const indexPath = join(tempDir(), 'index');
    await writeWhole(indexPath, [file]);
    const opened = await openNodeIndex(indexPath);
    onTestFinished(() => opened.close());
    expect(opened.fingerprint).toEqual(fingerprint);
    const layer = { index: indexPath, fingerprint, streamSize: opened.spans.streamSize };
    const again = await pool.run({ kind: 'layer', layer, below: undefined, ...base }, patient);
    expect(tree?.root).toMatchObject({ mode: 0o710 });
    expect(again.root).toEqual(tree?.root);
    expect(Buffer.compare(again.image, tree?.image ?? Buffer.of())).toBe(0);
  });

  it('fails with the code and the words of this thread', async () => {
    const pool = threads();
    const job = await tableJob(layerOf('a/', 'a/b'));
    const other = sha256(Buffer.from('other'));
    const wrong: IndexJob[] = [
      { ...job, table: job.table.subarray(0, 50) },
      { ...job, table: Buffer.from(job.table).fill(7, 140, 150) },
      { ...job, table: summed(job.table, (table) => table.writeUInt32LE(9, 8)) },
      { ...job, table: summed(job.table, (table) => table.writeUInt32LE(7, 12)) },
      { ...job, table: summed(job.table, (table) => table.fill(3, table.length - 60, table.length - 32)) },
      { ...job, diffId: other },
      { ...job, descriptor: { ...job.descriptor, digest: other } },
      { ...job, descriptor: { ...job.descriptor, mediaType: 'application/vnd.oci.image.layer.v1.tar' } },
      { ...job, windows: { digest: other, size: 77, from: undefined } },
      { ...job, kind: 'ztoc', ztoc: job.table },
      { kind: 'merged', layers: [{ index: '/nowhere/index', fingerprint: Buffer.alloc(32), streamSize: 1 }] },
    ];
    const codes = new Set<string | undefined>();
    for (const each of wrong) {
      const here = await failure(runIndexJob(each));
      expect(here).not.toBe('no failure');
      expect(await failure(pool.run(each, patient))).toEqual(here);
      codes.add((here as { code?: string }).code);
    }
    const expected = ['ENOENT', 'ERR_INDEX_CHECKSUM', 'ERR_INDEX_FORMAT', 'ERR_INDEX_VERSION', 'ERR_LAYER_INDEX'];
    expect(codes).toEqual(new Set(expected));
  });

  it('ends a thread with a job that nobody waits for, and says when one ends by itself', async () => {
    const pool = threads();
    const started = startedThreads();
    const many = await longJob();
    const leaving = new AbortController();
    const left = pool.run(many, leaving.signal);
    await isOnline(started, 0);
    leaving.abort(new Error('changed my mind'));
    await expect(left).rejects.toThrow('changed my mind');
    expect(started[0]?.threadId).toBe(-1);

    const crashing = failure(pool.run(many, patient));
    await isOnline(started, 1);
    await started[1]?.terminate();
    expect(await crashing).toEqual({ code: undefined, message: expect.stringContaining('ended without a result') });
    const { fingerprint } = await pool.run(many, patient);
    expect(fingerprint).toEqual((await runIndexJob(many)).fingerprint);
    expect(started).toHaveLength(3);
  });

  it('has threads that stand by, and others in place of those that ended', async () => {
    const pool = threads({ keepMs: 0 });
    const started = startedThreads();
    pool.stand();
    await isOnline(started, 0);
    const job = await tableJob(layerOf('a'));
    for (let i = 0; i < 3; i += 1) await pool.run(job, patient);
    expect(started).toHaveLength(1);
    const leaving = new AbortController();
    const left = pool.run(await longJob(), leaving.signal);
    await setImmediate();
    leaving.abort(new Error('enough'));
    await expect(left).rejects.toThrow('enough');
    await isOnline(started, 1);
    await Promise.all([pool.run(job, patient), pool.run(job, patient)]);
    // The one that there was no work for any more has gone.
    expect(started.map(({ threadId }) => threadId > 0)).toEqual([false, true, false]);
    await pool.close();
    expect(started.map(({ threadId }) => threadId)).toEqual([-1, -1, -1]);
  });

  it('starts as many as there may be when work is about to come', async () => {
    const pool = threads();
    const started = startedThreads();
    pool.stand();
    pool.expect();
    await isOnline(started, 1);
    const job = await tableJob(layerOf('a'));
    await Promise.all([pool.run(job, patient), pool.run(job, patient), pool.run(job, patient)]);
    expect(started).toHaveLength(2);
  });

  it('keeps no thread whose heap has grown', async () => {
    const started = startedThreads();
    const job = await tableJob(layerOf('a'));
    for (const [heapBytes, count] of [
      [1, 2],
      [undefined, 1],
    ] as const) {
      started.length = 0;
      const pool = threads({ heapBytes });
      await pool.run(job, patient);
      await pool.run(job, patient);
      expect(started.map(({ threadId }) => threadId > 0)).toEqual(count === 1 ? [true] : [false, false]);
    }
  });
});

describe('a zTOC', () => {
  it('becomes an index file in a thread, with its windows', async () => {
    const pool = threads();
    const layer = layerOf({ path: 'a', data: createHash('sha512').update('a').digest('hex').repeat(3000) });
    const offered = await (await foreignIndex(layer, { spanSize }))(0);
    if (offered.index === undefined || offered.index.format === 'peel') throw new Error('there is a zTOC');
    const ztoc = await offered.index.load({ signal: undefined });
    const { digest, size, mediaType } = layer.descriptor;
    const job: ZtocJob = {
      kind: 'ztoc',
      ztoc,
      descriptor: { digest, size, mediaType },
      diffId: layer.diffId,
      provenance: { format: 'soci-v1', source: 'lab' },
      tree: base,
    };
    const made = await pool.run(job, patient);
    const here = await runIndexJob(job);
    expect(Buffer.compare(made.file, here.file)).toBe(0);
    expect(Buffer.compare(made.tree?.image ?? Buffer.of(), here.tree?.image ?? Buffer.of(1))).toBe(0);
  });
});

describe('a tree that was made with its index', () => {
  it('is the one that is found, also while it is written, and compiled by nobody', async () => {
    const started = startedThreads();
    const layer = layerOf('a/', 'a/b');
    const made: PreparedIndex = await runIndexJob(await tableJob(layer));
    const { tree, fingerprint } = made;
    if (tree === undefined) throw new Error('there is one');
    const root = tempDir();
    const trees = new LayerTrees(root);
    onTestFinished(() => trees.close());
    const { digest } = layer.descriptor;
    trees.give({ digest, fingerprint, tree, ...base });
    const request = {
      layer: { digest, fingerprint, indexPath: join(root, 'no such index'), streamSize: layer.tar.length },
      below: [],
      ...base,
    };
    const [found] = await Promise.all([trees.compiled(request), trees.compiled(request)]);
    const again = await new LayerTrees(root).compiled(request);
    expect(again).toEqual(found);
    // Shown above others it is another one.
    await expect(trees.compiled({ ...request, base: false })).rejects.toMatchObject({ code: 'ERR_IMAGE_TREE' });
    expect(started.length).toBeLessThanOrEqual(1);
  });
});
