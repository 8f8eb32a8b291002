import { Worker } from 'node:worker_threads';
import { Deferred } from '../util/deferred.ts';
import { Semaphore } from '../util/semaphore.ts';
import type { IndexJob, IndexJobResult, IndexJobs } from './index-job.ts';
import type { IndexWorkerAnswer, IndexWorkerData } from './index-worker.ts';

export interface IndexThreadsOptions {
  /** Threads at the same time; default 2. */
  readonly atMost?: number;
  /** Milliseconds that a thread waits for its next job: starting one takes longer than most jobs. 0: none is kept. */
  readonly keepMs: number;
  /** Bytes of heap after which a thread had better not wait for another job; default 64 MiB. */
  readonly heapBytes?: number | undefined;
}

/** That of a thread which has done some layers of some thousand files is half of it. */
const heapBytes = 64 << 20;

interface IdleThread {
  readonly worker: Worker;
  /** Undefined: it waits for as long as it takes. */
  readonly timer: NodeJS.Timeout | undefined;
}

/** A job that failed in its thread: `code` as of the error there (ERR_TREE_…, ERR_INDEX_…, ENOENT …). */
export class IndexJobError extends Error {
  override readonly name = 'IndexJobError';
  readonly code: string | undefined;

  constructor(code: string | undefined, message: string) {
    super(message);
    this.code = code;
  }
}

/** Threads that read indexes and compile trees. Only while a job runs do they keep the process alive. */
export class IndexThreads implements IndexJobs {
  readonly #slots: Semaphore;
  readonly #atMost: number;
  readonly #keepMs: number;
  readonly #heapBytes: number;
  readonly #idle = new Set<IdleThread>();
  #threads = 0;
  /** Whether there is to be a thread also while there is no work, and which that is. */
  #stands = false;
  #standing: Worker | undefined;
  readonly #closing = new AbortController();

  constructor({ atMost = 2, keepMs, ...options }: IndexThreadsOptions) {
    this.#slots = new Semaphore(atMost);
    this.#atMost = atMost;
    this.#keepMs = keepMs;
    this.#heapBytes = options.heapBytes ?? heapBytes;
  }

  /** Errors: IndexJobError; the signal's reason, and then the thread is ended with its job. */
  async run<J extends IndexJob>(job: J, signal: AbortSignal): Promise<IndexJobResult<J>> {
    using _slot = await this.#slots.acquire(1, { signal });
    signal.throwIfAborted();
    const worker = this.#take();
    let answer: IndexWorkerAnswer | undefined;
    try {
      answer = await ask(worker, job, signal);
    } finally {
      const isKept =
        answer?.spent === false && !this.#closing.signal.aborted && (this.#keepMs > 0 || worker === this.#standing);
      if (isKept) this.#keep(worker);
      else await worker.terminate();
      this.#replace();
    }
    if ('failure' in answer) throw new IndexJobError(answer.failure.code, answer.failure.message);
    return answer.result as IndexJobResult<J>;
  }

  /** From now on a thread is there before there is work; it takes some 15 MB of memory, and 40 MB when it has worked. */
  stand(): void {
    this.#stands = true;
    this.#replace();
  }

  /** Several jobs are about to come: those who wait for the registry meanwhile need not wait for threads to start as well. */
  expect(): void {
    if (this.#keepMs === 0 || this.#closing.signal.aborted) return;
    while (this.#threads < this.#atMost) this.#keep(this.#start());
  }

  /** Ends the threads that wait for a job, and others when they have done theirs. */
  async close(): Promise<void> {
    this.#closing.abort(new DOMException('the threads are being closed', 'AbortError'));
    this.#stands = false;
    await Promise.all([...this.#idle].map((thread) => this.#end(thread)));
  }

  /** Starts the one that is to be there and is not. */
  #replace(): void {
    if (!this.#stands || this.#standing !== undefined) return;
    const worker = this.#start();
    this.#standing = worker;
    this.#keep(worker);
  }

  #take(): Worker {
    const idle = [...this.#idle];
    // The one whose code has run most often.
    const thread = idle.find(({ worker }) => worker === this.#standing) ?? idle.at(-1);
    if (thread === undefined) return this.#start();
    this.#forget(thread);
    thread.worker.ref();
    return thread.worker;
  }

  #start(): Worker {
    const worker = new Worker(new URL('./index-worker.js', import.meta.url), {
      execArgv: [],
      workerData: { heapBytes: this.#heapBytes } satisfies IndexWorkerData,
    });
    this.#threads += 1;
    // What ends a thread while nobody listens, ends no more than the thread.
    worker.on('error', () => {});
    worker.on('exit', () => {
      this.#threads -= 1;
      if (this.#standing === worker) this.#standing = undefined;
      for (const thread of this.#idle) if (thread.worker === worker) this.#forget(thread);
    });
    return worker;
  }

  #keep(worker: Worker): void {
    const isStanding = worker === this.#standing;
    const timer = isStanding ? undefined : setTimeout(() => void this.#end(thread), this.#keepMs).unref();
    const thread: IdleThread = { worker, timer };
    this.#idle.add(thread);
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

async function ask(worker: Worker, job: IndexJob, signal: AbortSignal): Promise<IndexWorkerAnswer> {
  const answer = new Deferred<IndexWorkerAnswer>();
  const onMessage = (message: IndexWorkerAnswer): void => answer.resolve(message);
  const onError = (error: unknown): void => answer.reject(error);
  const onAbort = (): void => answer.reject(signal.reason);
  const onExit = (): void => answer.reject(new Error('the thread that works on the index ended without a result'));
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
