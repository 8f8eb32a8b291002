import { describe, expect, it } from 'vitest';
import { backoffDelay, parseRetryAfter, retry, systemTimer } from '../../src/util/backoff.ts';
import type { BackoffTimer, RetryOptions } from '../../src/util/backoff.ts';
import { RetryBudget } from '../../src/util/retry-budget.ts';

const policy = { attempts: 4, baseMs: 100, maxMs: 300, maxRetryAfterMs: 5_000 };

function recordingTimer(random = 0.5): BackoffTimer & { readonly slept: number[] } {
  const slept: number[] = [];
  return { slept, random: () => random, sleep: async (ms) => void slept.push(ms) };
}

function failing(times: number): () => Promise<string> {
  let left = times;
  return async () => {
    if (left > 0) {
      left -= 1;
      throw new Error('not yet');
    }
    return 'done';
  };
}

const always: RetryOptions['decide'] = () => ({});

describe('retry', () => {
  it('waits a random part of an exponentially growing time', async () => {
    const timer = recordingTimer(0.5);
    expect(await retry(failing(3), { decide: always, policy, timer })).toBe('done');
    expect(timer.slept).toEqual([50, 100, 150]);
  });

  it('throws the last failure when the attempts are used up', async () => {
    const timer = recordingTimer();
    await expect(retry(failing(4), { decide: always, policy, timer })).rejects.toThrow('not yet');
    expect(timer.slept).toHaveLength(3);
  });

  it('does not begin a wait that goes beyond the deadline', async () => {
    const timer = recordingTimer(0);
    const decide = () => ({ afterMs: 4_000 });
    const withDeadline = { ...policy, deadlineMs: 3_000 };
    await expect(retry(failing(1), { decide, policy: withDeadline, timer })).rejects.toThrow('not yet');
    expect(timer.slept).toEqual([]);
    await retry(failing(1), { decide, policy: { ...policy, deadlineMs: 60_000 }, timer });
    expect(timer.slept).toEqual([4_000]);
  });

  it('spends a budget that is shared, and gives back what succeeds', async () => {
    const timer = recordingTimer();
    const budget = new RetryBudget(4);
    await retry(failing(3), { decide: always, policy, timer, budget });
    await expect(retry(failing(4), { decide: always, policy, timer, budget })).rejects.toThrow('not yet');
    expect(timer.slept).toHaveLength(3 + 2);
    await expect(retry(failing(1), { decide: always, policy, timer, budget })).rejects.toThrow('not yet');
    for (let i = 0; i < 9; i += 1) await retry(failing(0), { decide: always, policy, timer, budget });
    expect([1, 2, 3, 4, 5].map(() => budget.take())).toEqual([true, true, true, true, false]);
  });

  it('does not retry what is final', async () => {
    const timer = recordingTimer();
    await expect(retry(failing(1), { decide: () => undefined, policy, timer })).rejects.toThrow('not yet');
    expect(timer.slept).toEqual([]);
  });

  it('adds a Retry-After to the wait and gives up when it is too long', async () => {
    const timer = recordingTimer(0);
    await retry(failing(1), { decide: () => ({ afterMs: 2_000 }), policy, timer });
    expect(timer.slept).toEqual([2_000]);
    await expect(retry(failing(1), { decide: () => ({ afterMs: 6_000 }), policy, timer })).rejects.toThrow('not yet');
    expect(timer.slept).toEqual([2_000]);
  });

  it('ends a real wait with the reason of the signal', async () => {
    const controller = new AbortController();
    const slow = { ...policy, baseMs: 60_000, maxMs: 60_000 };
    const waiting = retry(failing(1), {
      decide: always,
      policy: slow,
      signal: controller.signal,
      timer: { ...systemTimer, random: () => 0.9 },
    });
    setTimeout(() => controller.abort(new Error('stop')), 5);
    await expect(waiting).rejects.toThrow('stop');
  });
});

describe('backoffDelay', () => {
  it('stays below the cap for any attempt', () => {
    expect(backoffDelay(policy, 0, 0.999)).toBe(99);
    expect(backoffDelay(policy, 5_000, 1)).toBe(300);
  });
});

describe('parseRetryAfter', () => {
  const now = Date.parse('Wed, 21 Oct 2026 07:28:00 GMT');
  it.each([
    ['120', 120_000],
    ['0', 0],
    ['Wed, 21 Oct 2026 07:28:03 GMT', 3_000],
    ['Wed, 21 Oct 2026 07:27:00 GMT', 0],
    ['soon', undefined],
    ['-1', undefined],
    ['1.5', undefined],
    [undefined, undefined],
  ])('reads %s as %s', (value, expected) => {
    expect(parseRetryAfter(value, now)).toBe(expected);
  });
});
