// Code that has run often is compiled well: the first layers of a fresh thread take five times as long as later ones. Threads that stand by
// run it beforehand, while the machine has nothing better to do.
import { cpus } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import type { Worker } from 'node:worker_threads';
import { Deferred } from '../util/deferred.ts';

/** What a thread is asked between jobs: it does some of the work and says whether that was all. */
export interface WarmRequest {
  readonly kind: 'warm';
}

export interface WarmAnswer {
  readonly isWarm: boolean;
}

export interface WarmOptions {
  /** ms until it begins, and after which a busy machine is looked at again. */
  readonly pauseMs: number;
  /** The threads that wait for a job. */
  readonly idle: () => Iterable<Worker>;
  readonly signal: AbortSignal;
  /** How much of all time of all processors has to be idle; default 0.3, as one thread of two processors leaves a half. */
  readonly idleShare?: number | undefined;
}

/** Resolves when all threads that wait are warm. One that a job comes for is left to it. Rejects with the signal's reason. */
export async function warmThreads({ pauseMs, idle, signal, idleShare = 0.3 }: WarmOptions): Promise<void> {
  const warm = new WeakSet<Worker>();
  let before = processorTimes();
  for (let pause = pauseMs; ; ) {
    await delay(pause, undefined, { signal, ref: false });
    const now = processorTimes();
    const all = now.all - before.all;
    const isCalm = all > 0 && now.idle - before.idle >= idleShare * all;
    before = now;
    pause = isCalm ? 0 : pauseMs;
    if (!isCalm) continue;
    const cold = [...idle()].find((worker) => !warm.has(worker));
    if (cold === undefined) return;
    if (await warmed(cold)) warm.add(cold);
  }
}

/** True also for a thread that has ended. */
async function warmed(worker: Worker): Promise<boolean> {
  const answer = new Deferred<boolean>();
  const onMessage = (message: object): void => {
    if ('isWarm' in message) answer.resolve((message as WarmAnswer).isWarm);
  };
  const onExit = (): void => answer.resolve(true);
  worker.on('message', onMessage).on('exit', onExit);
  try {
    const request: WarmRequest = { kind: 'warm' };
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
    worker.postMessage(request);
    return await answer.promise;
  } finally {
    worker.off('message', onMessage).off('exit', onExit);
  }
}

function processorTimes(): { readonly idle: number; readonly all: number } {
  let idle = 0;
  let all = 0;
  for (const { times } of cpus()) {
    idle += times.idle;
    all += times.idle + times.user + times.nice + times.sys + times.irq;
  }
  return { idle, all };
}
