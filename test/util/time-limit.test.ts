import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, it } from 'vitest';
import { TimeLimit } from '../../src/util/time-limit.ts';
import { eventually } from '../support/proxy-stack.ts';

describe('a time limit', () => {
  it('ends what only a signal of several has of it, also when memory was collected meanwhile', async () => {
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    const outer = new AbortController();
    // In a function of its own, whose frame goes.
    const limited = () => AbortSignal.any([outer.signal, new TimeLimit(200).signal]);
    const signals = Array.from({ length: 20 }, limited);
    for (const signal of signals) signal.addEventListener('abort', () => {});
    const collecting = setInterval(collect, 20);
    try {
      await eventually(() => signals.filter(({ aborted }) => aborted).length, signals.length);
    } finally {
      clearInterval(collecting);
    }
    expect(signals[0]?.reason).toMatchObject({ name: 'TimeoutError', message: 'not done in 200 ms' });
  });

  it('that is disposed of ends nothing', async () => {
    const limit = new TimeLimit(5);
    limit[Symbol.dispose]();
    await new Promise((resolve) => void setTimeout(resolve, 30));
    expect(limit.signal.aborted).toBe(false);
  });
});
