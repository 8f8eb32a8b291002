// The durable life of unpack jobs: a row of the database and a folder each. Several processes may use the same state directory: who works on a
// job holds the lock of its folder, and a job in progress whose lock is free belongs to a process that ended.
import { errorMessage } from '../layer/errors.ts';
import type { Logger } from '../observe/log.ts';
import type { NewUnpackJob, UnpackJobRow, UnpackJobState, UnpackJobTable } from '../state/unpack-jobs.ts';
import { UnpackError } from './errors.ts';
import type { FolderLock } from './folder-lock.ts';
import { JobFolders } from './job-folders.ts';
import { JobHandle } from './job-handle.ts';
import type { JobHandleParts } from './job-handle.ts';
import type { UnpackJobStatus } from './unpacker.ts';

export interface JobBookOptions {
  readonly root: string;
  readonly table: UnpackJobTable;
  /** The boot of this machine: what was written in an earlier one may not be whole. */
  readonly boot: string;
  readonly log: Logger;
}

export interface CollectOptions {
  /** ms since the epoch. */
  readonly now: number;
  readonly expiryMs: number;
  /** Whether somebody in this process still wants the job. */
  readonly inUse: (job: number) => boolean;
}

export interface Collected {
  readonly expired: readonly number[];
  /** Their rows are gone. */
  readonly removed: readonly number[];
  /** Folders without a job. */
  readonly orphans: number;
}

/** `cleared`: only its folder is to go. */
type Outcome = 'kept' | 'cleared' | 'expired' | 'removed';

/** Those that the next who wants the layer goes on with. */
const resumable: readonly UnpackJobState[] = ['in_progress', 'done', 'failed', 'cancelled'];

export class JobBook {
  readonly #table: UnpackJobTable;
  readonly #folders: JobFolders;
  readonly #log: Logger;
  readonly #parts: JobHandleParts;
  readonly #open = new Map<number, JobHandle>();

  constructor(options: JobBookOptions) {
    const { root, table, boot, log } = options;
    this.#table = table;
    this.#folders = new JobFolders(root);
    this.#log = log;
    this.#parts = { table, folders: this.#folders, boot, onClose: ({ job }) => void this.#open.delete(job) };
  }

  /**
   * A job that makes this: one that is done, else one that was not finished, else a new one, in progress and with an empty tree. Those that
   * another process works on, or another handle of this one, are left alone. The caller closes or removes it.
   * Errors: ERR_UNPACK_FOLDER, ERR_UNPACK_DISK; the signal's reason.
   */
  async begin(request: NewUnpackJob, options: { readonly signal?: AbortSignal | undefined } = {}): Promise<JobHandle> {
    const rows = this.#table.of(request).filter(({ state }) => resumable.includes(state));
    // Those that are done first, and the newest of them.
    for (const { job } of rows.sort((a, b) => Number(b.state === 'done') - Number(a.state === 'done'))) {
      options.signal?.throwIfAborted();
      const lock = this.#take(job);
      const handle = lock && (await this.#resume(job, lock, request.image));
      if (handle !== undefined) return handle;
    }
    options.signal?.throwIfAborted();
    return await this.#start(request);
  }

  /** Oldest first. `done` is known of jobs of this process, and of those that are done. */
  list(): UnpackJobStatus[] {
    return this.#table.list().map((row) => ({
      job: row.job,
      image: row.image,
      layer: row.layer,
      state: row.state,
      done: row.state === 'done' || row.state === 'claimed' ? row.size : (this.#open.get(row.job)?.received ?? 0),
      total: row.size,
      cause: row.cause,
      startedAt: row.createdAt,
    }));
  }

  /** Removes a job that nobody works on. Errors: ERR_UNPACK_JOB_UNKNOWN, ERR_UNPACK_JOB_STATE; as `JobHandle.remove`. */
  async remove(job: number): Promise<void> {
    if (this.#table.get(job) === undefined) {
      throw new UnpackError('ERR_UNPACK_JOB_UNKNOWN', `there is no unpack job ${job}`);
    }
    const lock = this.#folders.tryLock(job);
    if (lock === 'missing') return void this.#table.delete(job);
    if (lock === 'busy') {
      throw new UnpackError('ERR_UNPACK_JOB_STATE', `unpack job ${job} is being worked on: it cannot be removed`);
    }
    try {
      // It is not running, whatever its row says.
      this.#table.change(job, ['in_progress'], endedWithProcess);
      await this.#handle(job, lock, { resumed: true }).remove();
    } finally {
      lock.release();
    }
  }

  /**
   * What processes that ended left: jobs in progress are cancelled, and those that are claimed are returned, for what is left to be done for
   * the layer. The caller removes them.
   */
  recover(): JobHandle[] {
    const handles: JobHandle[] = [];
    for (const { job, state } of this.#table.list()) {
      if (state !== 'in_progress' && state !== 'claimed') continue;
      try {
        const handle = this.#recoverJob(job);
        if (handle !== undefined) handles.push(handle);
      } catch (error) {
        this.#log.error({ job, error: errorMessage(error) }, 'unpack job cannot be looked at');
      }
    }
    return handles;
  }

  #recoverJob(job: number): JobHandle | undefined {
    const lock = this.#take(job);
    if (lock === undefined) return undefined;
    if (this.#table.get(job)?.state === 'claimed') return this.#handle(job, lock, { resumed: true });
    this.#table.change(job, ['in_progress'], endedWithProcess);
    lock.release();
    return undefined;
  }

  /**
   * Expires jobs that nobody has touched for `expiryMs`: their folders go at once, their rows, which people may look at, after the same time
   * again. Jobs in progress whose process ended are cancelled. Removes folders without a job. What cannot be removed is logged, and left for the next time. Errors: those of the database.
   */
  async collect(options: CollectOptions): Promise<Collected> {
    const [expired, removed]: [number[], number[]] = [[], []];
    for (const { job } of this.#table.list()) {
      const outcome = await this.#collectJob(job, options).catch((error: unknown) => {
        this.#log.warn({ job, error: errorMessage(error) }, 'unpack job cannot be looked at');
        return 'kept';
      });
      if (outcome === 'expired') expired.push(job);
      if (outcome === 'removed') removed.push(job);
    }
    return { expired, removed, orphans: await this.#sweep() };
  }

  /** Gives up all folders; jobs in progress stay for the next process. Nothing writes there any more. Idempotent. */
  close(): void {
    for (const handle of this.#open.values()) handle.close();
  }

  /** Undefined when somebody works on the job. One without a folder is worth nothing. */
  #take(job: number): FolderLock | undefined {
    const lock = this.#folders.tryLock(job);
    if (lock === 'missing' && this.#table.get(job)?.state !== 'expired') this.#table.delete(job);
    return typeof lock === 'string' ? undefined : lock;
  }

  /** Undefined when it has changed since it was found. */
  async #resume(job: number, lock: FolderLock, image: string): Promise<JobHandle | undefined> {
    try {
      const row = this.#table.get(job);
      if (row === undefined || !resumable.includes(row.state)) return undefined;
      // An image's job that is done and was not claimed has its layer nowhere.
      const isLost = row.form === 'image' || row.boot !== this.#parts.boot || !this.#folders.hasTree(job);
      if (row.state !== 'done' || isLost) {
        // First, so that nobody takes a tree that is half removed for a whole one.
        this.#table.change(job, resumable, { state: 'in_progress' });
        await this.#folders.emptyTree(job);
      }
      this.#table.touch(job, image);
      return this.#handle(job, lock, { resumed: true });
    } finally {
      if (this.#open.get(job) === undefined) lock.release();
    }
  }

  async #start(request: NewUnpackJob): Promise<JobHandle> {
    const fresh = await this.#folders.make();
    let adopted: number | undefined;
    try {
      adopted = this.#table.durably(() => {
        const job = this.#table.insert(request);
        this.#folders.adopt(fresh, job);
        adopted = job;
        return job;
      });
    } catch (error) {
      if (adopted !== undefined) this.#folders.giveBack(fresh, adopted);
      await this.#folders.discard(fresh);
      throw error;
    }
    const handle = this.#handle(adopted, fresh.lock, { resumed: false });
    try {
      await this.#folders.sync(adopted);
      return handle;
    } catch (error) {
      handle.fail(error);
      throw error;
    }
  }

  #handle(job: number, lock: FolderLock, options: { readonly resumed: boolean }): JobHandle {
    const handle = new JobHandle(this.#parts, job, lock, options);
    this.#open.set(job, handle);
    return handle;
  }

  async #collectJob(job: number, options: CollectOptions): Promise<Outcome> {
    if (options.inUse(job)) return 'kept';
    const [held, row] = [this.#open.get(job), this.#table.get(job)];
    const expired = held !== undefined && row?.state === 'done' && isOverdue(row, options);
    if (expired) held.expire(options.now);
    const lock = this.#folders.tryLock(job);
    if (lock === 'busy') return 'kept';
    try {
      const outcome = this.#settle(job, options);
      if (outcome !== 'kept') await this.#removeFolder(job);
      return expired ? 'expired' : outcome;
    } finally {
      if (lock !== 'missing') lock.release();
    }
  }

  /** What becomes of a job that nobody works on. */
  #settle(job: number, options: CollectOptions): Outcome {
    const { now } = options;
    const row = this.#table.get(job);
    if (row === undefined) return 'kept';
    const overdue = isOverdue(row, options);
    switch (row.state) {
      case 'in_progress':
        // It was worked on until a moment ago: somebody may want to go on with it.
        this.#table.change(job, ['in_progress'], endedWithProcess, now);
        return 'kept';
      case 'claimed':
      case 'expired':
        if (!overdue) return row.state === 'expired' ? 'cleared' : 'kept';
        this.#table.delete(job);
        return 'removed';
      case 'done':
      case 'failed':
      case 'cancelled':
        if (!overdue) return 'kept';
        this.#table.change(job, [row.state], waitedTooLong, now);
        return 'expired';
    }
  }

  async #removeFolder(job: number): Promise<void> {
    await this.#folders.remove(job).catch((error: unknown) => {
      this.#log.warn({ job, error: errorMessage(error) }, 'cannot remove the folder of an unpack job');
    });
  }

  async #sweep(): Promise<number> {
    let swept = 0;
    const names = await this.#folders.names();
    const kept = new Set(this.#table.list().map(({ job }) => job));
    for (const { name, job } of names) {
      if (job !== undefined && kept.has(job)) continue;
      try {
        if (await this.#folders.sweep(name, () => job !== undefined && this.#table.get(job) !== undefined)) swept += 1;
      } catch (error) {
        this.#log.warn({ name, error: errorMessage(error) }, 'cannot remove a folder that no unpack job has');
      }
    }
    return swept;
  }
}

function isOverdue(row: UnpackJobRow, { now, expiryMs }: CollectOptions): boolean {
  return row.updatedAt + expiryMs <= now;
}

const endedWithProcess = {
  state: 'cancelled',
  code: 'ERR_UNPACK_CANCELLED',
  cause: 'the process that unpacked it ended',
} as const;

const waitedTooLong = {
  state: 'expired',
  code: 'ERR_UNPACK_EXPIRED',
  cause: 'nobody wanted it in time',
} as const;
