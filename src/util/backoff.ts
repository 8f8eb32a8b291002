// Exponential backoff with full jitter: the n-th wait is uniform in [0, min(maxMs, baseMs * 2^n)], so that clients that failed
// together do not come back together.
import { setTimeout as delay } from 'node:timers/promises';
import type { RetryBudget } from './retry-budget.ts';

export interface BackoffPolicy {
  /** How often the work is tried in all, the first time included. */
  readonly attempts: number;
  readonly baseMs: number;
  readonly maxMs: number;
  /** A Retry-After above this ends the retries: the caller learns sooner that the other side wants to be left alone. */
  readonly maxRetryAfterMs: number;
  /** From the first attempt; no wait goes beyond it. */
  readonly deadlineMs?: number | undefined;
}

export const defaultBackoff: BackoffPolicy = {
  attempts: 5,
  baseMs: 200,
  maxMs: 5_000,
  maxRetryAfterMs: 30_000,
  deadlineMs: 120_000,
};

/** What the retry loop knows of time and chance; replaced in tests. */
export interface BackoffTimer {
  sleep(ms: number, signal: AbortSignal | undefined): Promise<void>;
  /** In [0, 1). */
  random(): number;
}

export const systemTimer: BackoffTimer = {
  sleep: async (ms, signal) => {
    try {
      await delay(ms, undefined, signal === undefined ? {} : { signal });
    } catch (error) {
      signal?.throwIfAborted();
      throw error;
    }
  },
  random: Math.random,
};

/** What to do after a failure: `undefined` gives up, otherwise try again, not before `afterMs` (a Retry-After) when given. */
export type RetryDecision = { readonly afterMs?: number | undefined } | undefined;

export interface RetryOptions {
  readonly decide: (error: unknown, attempt: number) => RetryDecision;
  readonly policy?: BackoffPolicy | undefined;
  readonly timer?: BackoffTimer | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Shared with others: with nothing left in it the first failure is final. */
  readonly budget?: RetryBudget | undefined;
}

/** Milliseconds to wait after failed attempt number `attempt` (from 0), given `random` in [0, 1). */
export function backoffDelay(policy: BackoffPolicy, attempt: number, random: number): number {
  return Math.floor(random * Math.min(policy.maxMs, policy.baseMs * 2 ** Math.min(attempt, 30)));
}

/** Errors: the last failure of `work` when it is final or attempts, time or budget are used up; the signal's reason. */
export async function retry<T>(work: (attempt: number) => Promise<T>, options: RetryOptions): Promise<T> {
  const { decide, policy = defaultBackoff, timer = systemTimer, signal, budget } = options;
  const deadline = performance.now() + (policy.deadlineMs ?? Number.POSITIVE_INFINITY);
  for (let attempt = 0; ; attempt += 1) {
    signal?.throwIfAborted();
    try {
      const result = await work(attempt);
      budget?.succeeded();
      return result;
    } catch (error) {
      signal?.throwIfAborted();
      const decision = decide(error, attempt);
      if (decision === undefined || attempt + 1 >= policy.attempts) throw error;
      const afterMs = decision.afterMs ?? 0;
      const waitMs = afterMs + backoffDelay(policy, attempt, timer.random());
      if (afterMs > policy.maxRetryAfterMs || performance.now() + waitMs > deadline) throw error;
      if (budget !== undefined && !budget.take()) throw error;
      await timer.sleep(waitMs, signal);
    }
  }
}

/** Milliseconds from a Retry-After header (RFC 9110 section 10.2.3): seconds or an HTTP date; undefined when it is neither. */
export function parseRetryAfter(value: string | undefined, nowMs: number): number | undefined {
  if (value === undefined) return undefined;
  const text = value.trim();
  if (/^\d{1,9}$/.test(text)) return Number(text) * 1000;
  if (!/^[A-Z][a-z]{2}/.test(text)) return undefined;
  const time = Date.parse(text);
  return Number.isNaN(time) ? undefined : Math.max(0, time - nowMs);
}
