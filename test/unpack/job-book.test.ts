import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { UnpackError } from '../../src/unpack/errors.ts';
import type { NewUnpackJob } from '../../src/state/unpack-jobs.ts';
import type { JobBook } from '../../src/unpack/job-book.ts';
import type { JobHandle } from '../../src/unpack/job-handle.ts';
import { byteStringFromText } from '../../src/util/byte-string.ts';
import { jobFolders, jobRequest, jobsRoot, openBook } from '../support/unpack-jobs.ts';

const expiryMs = 1000;
const nobody = () => false;
const implied = [byteStringFromText(''), byteStringFromText('etc/ä')];
const applied = { implied, hiding: implied.slice(1) };

async function begun(book: JobBook, content = 'half', request = jobRequest): Promise<JobHandle> {
  const job = await book.begin(request);
  writeFileSync(path.join(job.fsDir, 'file'), content);
  writeFileSync(path.join(job.folder, 'blob'), 'bytes');
  return job;
}

async function done(book: JobBook, request = jobRequest): Promise<JobHandle> {
  const job = await begun(book, 'whole', request);
  job.finished(applied);
  return job;
}

const code = (name: string) => expect.objectContaining({ name: 'UnpackError', code: name }) as Error;

describe('a job', () => {
  it('is done, claimed and removed', async () => {
    const root = jobsRoot();
    const { book } = openBook(root);
    const job = await book.begin(jobRequest);
    expect([job.resumed, job.state, job.folder]).toEqual([false, 'in_progress', path.join(root, 'unpack', '1')]);
    expect(readdirSync(job.fsDir)).toEqual([]);
    job.received = 10;
    expect(book.list()).toMatchObject([{ job: 1, image: 'app:1', state: 'in_progress', done: 10, total: 1000 }]);
    job.finished(applied);
    expect([job.state, job.applied, job.ofThisBoot]).toEqual(['done', applied, true]);
    expect(job.claim((dir) => (renameSync(dir, path.join(root, 'taken')), dir))).toBe(job.fsDir);
    expect(book.list()).toMatchObject([{ state: 'claimed', done: 1000 }]);
    await job.remove();
    expect([book.list(), jobFolders(root)]).toEqual([[], []]);
    expect(() => job.state).toThrow(code('ERR_UNPACK_JOB_UNKNOWN'));
  });

  it('goes on where an earlier one failed or was cancelled', async () => {
    const root = jobsRoot();
    const { book } = openBook(root);
    const first = await begun(book);
    first.fail(new UnpackError('ERR_UNPACK_FETCH', `no\nbytes ${'x'.repeat(1000)}`));
    expect(book.list()).toMatchObject([
      { state: 'failed', cause: expect.stringMatching(/^no bytes x{491}…$/) as string },
    ]);
    const second = await book.begin({ ...jobRequest, image: 'other:2' });
    expect([second.job, second.resumed, second.state]).toEqual([first.job, true, 'in_progress']);
    expect(book.list()).toMatchObject([{ image: 'other:2', cause: undefined }]);
    // Of the tree nothing is left, of the download everything.
    expect(readdirSync(second.fsDir)).toEqual([]);
    expect(readFileSync(path.join(second.folder, 'blob'), 'utf8')).toBe('bytes');
    second.cancel('nobody waits for it');
    expect(book.list()).toMatchObject([{ state: 'cancelled', cause: 'nobody waits for it' }]);
    expect((await book.begin(jobRequest)).job).toBe(first.job);
  });

  it.each([
    ['layer', { layer: jobRequest.diffId }],
    ['diffID', { diffId: jobRequest.layer }],
    ['form', { form: 'image' as const }],
    ['size', { size: 1001 }],
  ])('is another one for another %s', async (_what, other) => {
    const { book } = openBook(jobsRoot());
    const job = await begun(book);
    job.cancel('');
    const next = await book.begin({ ...jobRequest, ...other });
    expect([next.job, next.resumed]).toEqual([2, false]);
  });

  it('is given with its tree when it is done and nobody has it', async () => {
    const root = jobsRoot();
    const { book } = openBook(root);
    (await done(book)).close();
    const other = openBook(root).book;
    const job = await other.begin(jobRequest);
    expect([job.job, job.resumed, job.state, job.applied]).toEqual([1, true, 'done', applied]);
    expect(readFileSync(path.join(job.fsDir, 'file'), 'utf8')).toBe('whole');
    // Rather than one that is not done.
    const later = await begun(book);
    expect(later.job).toBe(2);
    later.cancel('');
    job.close();
    expect((await book.begin(jobRequest)).job).toBe(1);
  });

  it('is done anew when its tree is gone, or may not be whole', async () => {
    const root = jobsRoot();
    const { book } = openBook(root);
    const first = await done(book);
    renameSync(first.fsDir, path.join(root, 'taken'));
    first.close();
    const again = await begun(book);
    expect([again.job, again.state, again.applied]).toEqual([1, 'in_progress', { implied: [], hiding: [] }]);
    again.finished(applied);
    again.close();
    const asked = openBook(root, { boot: 'the next boot' }).book.begin(jobRequest);
    // Already while its tree is being emptied, so that a crash leaves no half of one that counts as whole.
    expect(book.list()).toMatchObject([{ state: 'in_progress' }]);
    const rebooted = await asked;
    expect([rebooted.job, rebooted.state, readdirSync(rebooted.fsDir)]).toEqual([1, 'in_progress', []]);
  });

  it('belongs to one process at a time, and to one handle in it', async () => {
    const root = jobsRoot();
    const [one, two] = [openBook(root).book, openBook(root).book];
    const all = await Promise.all([one, two, one, two].map((book) => book.begin(jobRequest)));
    expect(new Set(all.map(({ job }) => job)).size).toBe(4);
    await expect(two.remove(all[0]?.job ?? 0)).rejects.toEqual(code('ERR_UNPACK_JOB_STATE'));
    for (const job of all) job.close();
    // All are free now; of those who ask at once each gets another one.
    const again = await Promise.all([one, two, one, two].map((book) => book.begin(jobRequest)));
    expect(new Set(again.map(({ job }) => job))).toEqual(new Set(all.map(({ job }) => job)));
    expect(again.every(({ resumed }) => resumed)).toBe(true);
  });

  it('is not begun for somebody who is gone', async () => {
    const { book } = openBook(jobsRoot());
    await expect(book.begin(jobRequest, { signal: AbortSignal.abort(new Error('gone')) })).rejects.toThrow('gone');
    expect(book.list()).toEqual([]);
  });
});

describe('a claim', () => {
  it('is one transaction with what the taker writes', async () => {
    const root = jobsRoot();
    const { book, state } = openBook(root);
    const job = await done(book);
    const insert = () => state.snapshots.insert({ key: 'k', kind: 'committed', labels: {} });
    const broken = new Error('broken');
    const take = (dir: string) => {
      insert();
      expect(existsSync(dir)).toBe(true);
      throw broken;
    };
    expect(() => job.claim(take)).toThrow(broken);
    expect([job.state, state.snapshots.get('k')]).toEqual(['done', undefined]);
    // One around it that fails takes the claim with it.
    expect(() =>
      state.snapshots.durably(() => {
        job.claim(insert);
        expect(job.state).toBe('claimed');
        throw broken;
      }),
    ).toThrow(broken);
    expect([job.state, job.applied, state.snapshots.get('k')]).toEqual(['done', applied, undefined]);
    state.snapshots.durably(() => job.claim(insert));
    expect([job.state, state.snapshots.get('k')]).toMatchObject(['claimed', { key: 'k' }]);
  });

  it('that moved the tree and failed leaves a job to be done anew', async () => {
    const root = jobsRoot();
    const { book } = openBook(root);
    const job = await done(book);
    const take = (dir: string) => {
      renameSync(dir, path.join(root, 'lost'));
      throw new Error('broken');
    };
    expect(() => job.claim(take)).toThrow('broken');
    expect(() => job.claim(() => expect.unreachable())).toThrow(code('ERR_UNPACK_NOT_CLAIMABLE'));
    job.close();
    const again = await book.begin(jobRequest);
    expect([again.job, again.state, readdirSync(again.fsDir)]).toEqual([1, 'in_progress', []]);
  });

  it('is refused when there is nothing to take', async () => {
    const { book } = openBook(jobsRoot());
    const never = () => expect.unreachable('the tree was given away');
    const job = await begun(book);
    expect(() => job.claim(never)).toThrow(code('ERR_UNPACK_NOT_CLAIMABLE'));
    job.finished(applied);
    job.claim(() => {});
    expect(() => job.claim(never)).toThrow(code('ERR_UNPACK_NOT_CLAIMABLE'));
    const closed = await done(book);
    closed.close();
    expect(() => closed.claim(never)).toThrow(code('ERR_UNPACK_NOT_CLAIMABLE'));
    const expired = await book.begin(jobRequest);
    expired.expire();
    expect(() => expired.claim(never)).toThrow(code('ERR_UNPACK_EXPIRED'));
    const cancelled = await begun(book);
    cancelled.cancel('nobody wants it');
    expect(() => cancelled.claim(never)).toThrow(code('ERR_UNPACK_CANCELLED'));
    expect(() => cancelled.claim(never)).toThrow(/nobody wants it/);
  });
});

describe('the states of a job', () => {
  const steps = {
    finished: (job: JobHandle) => job.finished(applied),
    fail: (job: JobHandle) => job.fail(new Error('no')),
    cancel: (job: JobHandle) => job.cancel('no'),
    expire: (job: JobHandle) => job.expire(),
    remove: (job: JobHandle) => job.remove(),
  };
  const allowed = {
    in_progress: ['finished', 'fail', 'cancel', 'expire'],
    done: ['expire', 'remove'],
    claimed: ['remove'],
    // Those who ended it gave it up.
    failed: [],
    cancelled: [],
    expired: [],
  };
  const reach: Record<keyof typeof allowed, (book: JobBook, request: NewUnpackJob) => Promise<JobHandle>> = {
    in_progress: (book, request) => book.begin(request),
    done,
    claimed: async (book, request) => {
      const job = await done(book, request);
      job.claim(() => {});
      return job;
    },
    failed: async (book, request) => ended(await book.begin(request), steps.fail),
    cancelled: async (book, request) => ended(await book.begin(request), steps.cancel),
    expired: async (book, request) => ended(await book.begin(request), steps.expire),
  };
  function ended(job: JobHandle, how: (job: JobHandle) => void): JobHandle {
    how(job);
    return job;
  }

  it.each(Object.keys(reach) as (keyof typeof reach)[])('allow no step that makes no sense: %s', async (from) => {
    const { book } = openBook(jobsRoot());
    for (const [index, [name, step]] of Object.entries(steps).entries()) {
      const job = await reach[from](book, { ...jobRequest, size: index });
      expect(job.state).toBe(from);
      const result = await Promise.resolve()
        .then(() => step(job))
        .then(
          () => 'allowed',
          (error: unknown) => error,
        );
      if (allowed[from].some((each) => each === name)) expect([name, result]).toEqual([name, 'allowed']);
      else {
        expect([name, result]).toEqual([name, code('ERR_UNPACK_JOB_STATE')]);
        expect(job.state).toBe(from);
      }
      job.close();
    }
  });

  it('let nobody remove a job that runs, but each other one', async () => {
    const root = jobsRoot();
    const { book } = openBook(root);
    for (const from of Object.keys(reach) as (keyof typeof reach)[]) {
      const job = await reach[from](book, jobRequest);
      job.close();
      await book.remove(job.job);
      expect([from, book.list(), jobFolders(root)]).toEqual([from, [], []]);
    }
    await expect(book.remove(1)).rejects.toEqual(code('ERR_UNPACK_JOB_UNKNOWN'));
  });
});

describe('the compressed layer of a job', () => {
  it('is there as a whole, or missing', async () => {
    const { book } = openBook(jobsRoot());
    const job = await begun(book);
    await expect(job.keptBlob()).rejects.toEqual(code('ERR_UNPACK_BLOB_MISSING'));
    writeFileSync(path.join(job.folder, 'blob'), Buffer.alloc(1000));
    expect(await job.keptBlob()).toBe(path.join(job.folder, 'blob'));
    rmSync(path.join(job.folder, 'blob'));
    await expect(job.keptBlob()).rejects.toEqual(code('ERR_UNPACK_BLOB_MISSING'));
  });
});

describe('recovery', () => {
  it('cancels what was in progress and hands out what was claimed, of processes that ended', async () => {
    const root = jobsRoot();
    const { book } = openBook(root);
    const other = openBook(root).book;
    const [dead, claimed, alive, aliveClaimed] = [
      await begun(book),
      await done(book),
      await begun(other),
      await done(other),
    ];
    for (const job of [claimed, aliveClaimed]) job.claim((dir) => rmSync(dir, { recursive: true }));
    dead.close();
    claimed.close();
    const { book: next } = openBook(root, { boot: 'the next boot' });
    const handles = next.recover();
    expect(handles.map((each) => [each.job, each.state, each.ofThisBoot])).toEqual([[claimed.job, 'claimed', false]]);
    expect([alive.state, aliveClaimed.state]).toEqual(['in_progress', 'claimed']);
    expect(next.list()[0]).toMatchObject({ state: 'cancelled', cause: 'the process that unpacked it ended' });
    for (const each of handles) await each.remove();
    expect(jobFolders(root)).toEqual(['1', '3', '4']);
    expect(book.recover()).toEqual([]);
  });
});

describe('collecting', () => {
  it('expires what nobody wants, and removes its row later', async () => {
    const root = jobsRoot();
    const { book } = openBook(root);
    const [failed, finished, claimed, running] = [
      await begun(book),
      await done(book),
      await done(book),
      await begun(book),
    ];
    failed.fail(new Error('no'));
    finished.close();
    claimed.claim((dir) => rmSync(dir, { recursive: true }));
    claimed.close();
    const none = { expired: [], removed: [], orphans: 0 };
    const now = Date.now();
    expect(await book.collect({ now, expiryMs, inUse: nobody })).toEqual(none);
    const later = now + expiryMs;
    expect(await book.collect({ now: later, expiryMs, inUse: (job) => job === 2 })).toEqual({
      expired: [1],
      removed: [3],
      orphans: 0,
    });
    expect(await book.collect({ now: later, expiryMs, inUse: nobody })).toEqual({ ...none, expired: [2] });
    expect(jobFolders(root)).toEqual(['4']);
    expect(book.list().map(({ job, state }) => [job, state])).toEqual([
      [1, 'expired'],
      [2, 'expired'],
      [4, 'in_progress'],
    ]);
    expect(await book.collect({ now: later + expiryMs, expiryMs, inUse: nobody })).toEqual({
      ...none,
      removed: [1, 2],
    });
    expect([running.state, existsSync(running.fsDir)]).toEqual(['in_progress', true]);
  });

  it('expires a tree that this process holds and nobody takes', async () => {
    const { book } = openBook(jobsRoot());
    const job = await done(book);
    const options = { now: Date.now() + 10 + expiryMs, expiryMs };
    expect((await book.collect({ ...options, inUse: () => true })).expired).toEqual([]);
    expect((await book.collect({ ...options, inUse: nobody })).expired).toEqual([1]);
    expect(existsSync(job.folder)).toBe(false);
    expect(() => job.claim(() => expect.unreachable())).toThrow(code('ERR_UNPACK_EXPIRED'));
    // It is over: the next one is another job.
    expect((await book.begin(jobRequest)).job).toBe(2);
  });

  it('gives a job whose process ended its time before it expires', async () => {
    const root = jobsRoot();
    const { book } = openBook(root);
    const job = await begun(book);
    job.close();
    const now = Date.now() + 5 * expiryMs;
    expect((await book.collect({ now, expiryMs, inUse: nobody })).expired).toEqual([]);
    expect(book.list()).toMatchObject([{ state: 'cancelled' }]);
    expect((await book.collect({ now: now + expiryMs, expiryMs, inUse: nobody })).expired).toEqual([1]);
  });

  it('removes the folder of a job that expired while it ran', async () => {
    const root = jobsRoot();
    const { book } = openBook(root);
    const job = await begun(book);
    job.expire();
    expect(jobFolders(root)).toEqual(['1']);
    await book.collect({ now: Date.now(), expiryMs, inUse: nobody });
    expect([jobFolders(root), book.list().length]).toEqual([[], 1]);
  });

  it('removes folders without a job, but none that is being made', async () => {
    const root = jobsRoot();
    const { book } = openBook(root);
    const job = await begun(book);
    for (const name of ['new-x/fs', 'old-x/fs/deep', '7/fs', 'strange']) {
      mkdirSync(path.join(root, 'unpack', name), { recursive: true });
    }
    writeFileSync(path.join(root, 'unpack', '9'), '');
    expect(await book.collect({ now: 0, expiryMs, inUse: nobody })).toMatchObject({ orphans: 5 });
    expect(jobFolders(root)).toEqual([String(job.job)]);
    const { book: other } = openBook(root);
    const all: JobHandle[] = [];
    const work = (async () => {
      while (all.length < 16) all.push(await begun(book), await done(book));
    })();
    while (all.length < 16) await other.collect({ now: 0, expiryMs, inUse: nobody });
    await work;
    expect(all.map(({ fsDir }) => readdirSync(fsDir))).toEqual(all.map(() => ['file']));
    expect(jobFolders(root)).toHaveLength(17);
  });

  it('is fine without a folder', async () => {
    const { book } = openBook(jobsRoot());
    const none = { expired: [], removed: [], orphans: 0 };
    expect(await book.collect({ now: 0, expiryMs, inUse: nobody })).toEqual(none);
  });
});

describe('the folder of a job', () => {
  it('takes the place of what a crash left there', async () => {
    const root = jobsRoot();
    mkdirSync(path.join(root, 'unpack', '1', 'fs', 'poison'), { recursive: true });
    writeFileSync(path.join(root, 'unpack', '2'), '');
    const { book } = openBook(root);
    for (const expected of [1, 2]) {
      const job = await book.begin(jobRequest);
      expect([job.job, readdirSync(job.fsDir)]).toEqual([expected, []]);
    }
    expect(await book.collect({ now: 0, expiryMs, inUse: nobody })).toMatchObject({ orphans: 2 });
    expect(jobFolders(root)).toEqual(['1', '2']);
  });

  it('cannot be made where something else is, or nothing can be', async () => {
    const root = jobsRoot();
    const { book } = openBook(root);
    writeFileSync(path.join(root, 'unpack'), '');
    await expect(book.begin(jobRequest)).rejects.toEqual(code('ERR_UNPACK_FOLDER'));
    expect(book.list()).toEqual([]);
    const nowhere = openBook(root);
    rmSync(root, { recursive: true });
    mkdirSync(root);
    // Below /proc nothing can be made.
    const { JobFolders } = await import('../../src/unpack/job-folders.ts');
    await expect(new JobFolders('/proc/self/fd').make()).rejects.toEqual(code('ERR_UNPACK_DISK'));
    nowhere.book.close();
  });

  it('is found missing by who wants to go on with it', async () => {
    const root = jobsRoot();
    const { book } = openBook(root);
    (await begun(book)).close();
    rmSync(path.join(root, 'unpack', '1'), { recursive: true });
    const job = await book.begin(jobRequest);
    expect([job.job, job.resumed, book.list().length]).toEqual([2, false, 1]);
  });
});
