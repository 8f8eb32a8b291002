import { Worker } from 'node:worker_threads';
import { Deferred } from '../util/deferred.ts';
import { Semaphore } from '../util/semaphore.ts';
import type { TreeJob, TreeJobResult } from './tree-job.ts';
import type { TreeWorkerAnswer } from './tree-worker.ts';

export interface TreeThreadsOptions {
  /** Threads at the same time; default 2. */
  readonly atMost?: number;
  /** Milliseconds that a thread waits for its next job: starting one takes longer than most jobs. 0: none is kept. */
  readonly keepMs: number;
}

interface IdleThread {
  readonly worker: Worker;
  readonly timer: NodeJS.Timeout;
}

/** A job that failed in its thread: `code` as of the error there (ERR_TREE_…, ERR_INDEX_…, ENOENT …). */
export class TreeJobError extends Error {
  override readonly name = 'TreeJobError';
  readonly code: string | undefined;

  constructor(code: string | undefined, message: string) {
    super(message);
    this.code = code;
  }
}

/** Threads that compile trees. Only while a job runs do they keep the process alive. */
export class TreeThreads {
  readonly #slots: Semaphore;
  readonly #keepMs: number;
  readonly #idle = new Set<IdleThread>();

  constructor({ atMost = 2, keepMs }: TreeThreadsOptions) {
    this.#slots = new Semaphore(atMost);
    this.#keepMs = keepMs;
  }

  /** Errors: TreeJobError; the signal's reason, and then the thread is ended with its job. */
  async run<J extends TreeJob>(job: J, signal: AbortSignal): Promise<TreeJobResult<J>> {
    using _slot = await this.#slots.acquire(1, { signal });
    signal.throwIfAborted();
    const worker = this.#take();
    let answer: TreeWorkerAnswer;
    try {
      answer = await ask(worker, job, signal);
    } catch (error) {
      await worker.terminate();
      throw error;
    }
    if (this.#keepMs > 0) this.#keep(worker);
    else await worker.terminate();
    if ('failure' in answer) throw new TreeJobError(answer.failure.code, answer.failure.message);
    return answer.result as TreeJobResult<J>;
  }

  /** Ends the threads that wait for a job. */
  async close(): Promise<void> {
    await Promise.all([...this.#idle].map((thread) => this.#end(thread)));
  }

  #take(): Worker {
    for (const thread of this.#idle) {
      this.#forget(thread);
      thread.worker.ref();
      return thread.worker;
    }
    const worker = new Worker(new URL('./tree-worker.js', import.meta.url), { execArgv: [] });
    // What ends a thread while nobody listens, ends no more than the thread.
    worker.on('error', () => {});
    worker.on('exit', () => {
      for (const thread of this.#idle) if (thread.worker === worker) this.#forget(thread);
    });
    return worker;
  }

  #keep(worker: Worker): void {
    const timer = setTimeout(() => void this.#end(thread), this.#keepMs);
    const thread: IdleThread = { worker, timer };
    this.#idle.add(thread);
    timer.unref();
    worker.unref();
  }

  #forget(thread: IdleThread): void {
    this.#idle.delete(thread);
    clearTimeout(thread.timer);
  }

  async #end(thread: IdleThread): Promise<void> {
    this.#forget(thread);
    await thread.worker.terminate();
  }
}

async function ask(worker: Worker, job: TreeJob, signal: AbortSignal): Promise<TreeWorkerAnswer> {
  const answer = new Deferred<TreeWorkerAnswer>();
  const onMessage = (message: TreeWorkerAnswer): void => answer.resolve(message);
  const onError = (error: unknown): void => answer.reject(error);
  const onAbort = (): void => answer.reject(signal.reason);
  const onExit = (): void => answer.reject(new Error('the thread that compiles the tree ended without a result'));
  signal.addEventListener('abort', onAbort);
  worker.on('message', onMessage).on('error', onError).on('exit', onExit);
  try {
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
    worker.postMessage(job);
    return await answer.promise;
  } finally {
    signal.removeEventListener('abort', onAbort);
    worker.off('message', onMessage).off('error', onError).off('exit', onExit);
  }
}
