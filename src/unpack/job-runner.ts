// Work on jobs: each has room on the disk and a time limit, and its end is recorded, however it ends.
import { setMaxListeners } from 'node:events';
import { errorMessage } from '../layer/errors.ts';
import type { Logger } from '../observe/log.ts';
import type { ProgressSink } from '../observe/progress.ts';
import type { NewUnpackJob, UnpackJobForm } from '../state/unpack-jobs.ts';
import { TimeLimit } from '../util/time-limit.ts';
import { checkSpace } from './check-space.ts';
import { clearJob } from './clear-job.ts';
import type { CompressedStore } from './compressed-store.ts';
import { UnpackError } from './errors.ts';
import type { JobBook } from './job-book.ts';
import type { JobHandle } from './job-handle.ts';
import { unpackFailure } from './unpack-failure.ts';
import type { UnpackSettings } from './unpack-settings.ts';
import type { LayerToUnpack, UnpackLayerRequest } from './unpacker.ts';

export interface JobRunnerOptions {
  readonly root: string;
  /** Asked whenever a job begins. */
  readonly settings: () => UnpackSettings;
  readonly book: JobBook;
  readonly compressed: CompressedStore;
  readonly log: Logger;
  /** The last job that ran has ended. */
  readonly onQuiet: () => void;
}

export type JobRequest = LayerToUnpack & Pick<UnpackLayerRequest, 'image' | 'onProgress'>;

type JobWork = (handle: JobHandle, signal: AbortSignal) => Promise<void>;

/** Bytes that a layer takes for each of its blob's while it is unpacked, as long as nobody knows: blob, stream and tree. */
const guessedRatio = 6;

export class JobRunner {
  readonly #o: JobRunnerOptions;
  readonly #ending = new AbortController();
  /** Jobs that run, and the bytes that each may still write. */
  readonly #running = new Map<number, number>();
  /** All that `close` waits for. */
  readonly #work = new Set<Promise<void>>();

  constructor(options: JobRunnerOptions) {
    this.#o = options;
    setMaxListeners(0, this.#ending.signal);
  }

  /** Errors: ERR_UNPACK_CANCELLED. */
  throwIfClosed(): void {
    this.#ending.signal.throwIfAborted();
  }

  /** Whether any job runs. */
  get isBusy(): boolean {
    return this.#running.size > 0;
  }

  runs(job: number): boolean {
    return this.#running.has(job);
  }

  /**
   * Begins or resumes a job, and says how it ended when it did not end well. Errors: those of `work`; ERR_UNPACK_SPACE, ERR_UNPACK_EXPIRED,
   * ERR_UNPACK_FOLDER, ERR_UNPACK_DISK; the reason of `outer`, or that the runner is closed.
   */
  async run(request: JobRequest, form: UnpackJobForm, outer: AbortSignal, work: JobWork): Promise<void> {
    await this.track(this.#run(request, form, outer, work));
  }

  /** Has `close` wait for it. Errors: those of `work`. */
  async track(work: Promise<void>): Promise<void> {
    this.#work.add(work);
    try {
      await work;
    } finally {
      this.#work.delete(work);
    }
  }

  /** Keeps count of what came, for the job's status and for the room that it still needs. */
  counting(handle: JobHandle, { descriptor, onProgress }: JobRequest): ProgressSink {
    return (event) => {
      handle.received = event.done;
      if (this.#running.has(handle.job)) this.#running.set(handle.job, (descriptor.size - event.done) * guessedRatio);
      onProgress?.(event);
    };
  }

  /** Ends all jobs and waits for them. Never rejects. Idempotent. */
  async close(): Promise<void> {
    this.#ending.abort(new UnpackError('ERR_UNPACK_CANCELLED', 'the unpacker is closed'));
    while (this.#work.size > 0) await Promise.allSettled(this.#work);
  }

  async #run(request: JobRequest, form: UnpackJobForm, outer: AbortSignal, work: JobWork): Promise<void> {
    const { descriptor, diffId, image } = request;
    const { expiryMs } = this.#o.settings();
    using expiry = new TimeLimit(expiryMs);
    const signal = AbortSignal.any([outer, this.#ending.signal, expiry.signal]);
    setMaxListeners(0, signal);
    const { digest: layer, size, mediaType } = descriptor;
    const handle = await this.#begin({ layer, diffId, form, size, image, mediaType }, signal);
    try {
      if (handle.state !== 'done') await this.#claimSpace(handle, size);
      await work(handle, signal);
    } catch (error) {
      const isExpired = signal.aborted && !this.#ending.signal.aborted && !outer.aborted;
      const failure = isExpired
        ? new UnpackError('ERR_UNPACK_EXPIRED', `layer ${layer} of ${image} was not unpacked in ${expiryMs} ms`)
        : error;
      await this.#endJob(handle, failure, outer, signal);
      throw failure;
    } finally {
      this.#running.delete(handle.job);
      if (this.#running.size === 0) this.#o.onQuiet();
    }
  }

  async #begin(job: NewUnpackJob, signal: AbortSignal): Promise<JobHandle> {
    try {
      return await this.#o.book.begin(job, { signal });
    } catch (error) {
      signal.throwIfAborted();
      throw unpackFailure(error, job.layer);
    }
  }

  /** Nobody works on it any more, whatever is said of it. Never rejects. */
  async #endJob(handle: JobHandle, failure: unknown, outer: AbortSignal, signal: AbortSignal): Promise<void> {
    const { compressed, log } = this.#o;
    try {
      const { state, layer } = handle.row();
      if (state !== 'in_progress') return;
      await clearJob({ compressed, log }, layer, handle.folder, failure);
      if (!signal.aborted) handle.fail(failure);
      else if (this.#ending.signal.aborted) handle.cancel('peel stopped');
      else if (outer.aborted) handle.cancel('nobody wants the layer any more');
      else handle.expire();
    } catch (error) {
      // A full disk takes no record of it. The next who begins the job finds that nobody has it.
      log.warn({ job: handle.job, error: errorMessage(error) }, 'cannot record how an unpack job ended');
    } finally {
      handle.close();
    }
  }

  async #claimSpace({ job }: JobHandle, size: number): Promise<void> {
    const { root, settings } = this.#o;
    this.#running.set(job, size * guessedRatio);
    const needed = [...this.#running.values()].reduce((sum, bytes) => sum + bytes, 0);
    await checkSpace({ root, needed, reserve: settings().reserve });
  }
}
