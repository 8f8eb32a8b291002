import { describe, expect, it } from 'vitest';
import { Deferred } from '../../src/util/deferred.ts';
import { OnceMap } from '../../src/util/once-map.ts';

describe('OnceMap', () => {
  it('does the work once for callers at the same time and again afterwards', async () => {
    const map = new OnceMap<string, number>();
    const gate = new Deferred<number>();
    let calls = 0;
    const work = () => {
      calls += 1;
      return gate.promise;
    };
    const both = Promise.all([map.run('a', work), map.run('a', work)]);
    gate.resolve(7);
    expect(await both).toEqual([7, 7]);
    expect(calls).toBe(1);
    expect(map.size).toBe(0);
    await map.run('a', work);
    expect(calls).toBe(2);
  });

  it('gives a failure to every caller and keeps none of it', async () => {
    const map = new OnceMap<string, number>();
    const fail = () => Promise.reject<number>(new Error('broken'));
    const results = await Promise.allSettled([map.run('a', fail), map.run('a', fail)]);
    expect(results.map((r) => r.status)).toEqual(['rejected', 'rejected']);
    expect(await map.run('a', () => Promise.resolve(1))).toBe(1);
  });

  it('turns a synchronous throw into a rejection', async () => {
    const map = new OnceMap<string, number>();
    const work = () => {
      throw new Error('early');
    };
    await expect(map.run('a', work)).rejects.toThrow('early');
    expect(map.size).toBe(0);
  });

  it('lets one caller leave while the work goes on for the other', async () => {
    const map = new OnceMap<string, number>();
    const gate = new Deferred<number>();
    const controller = new AbortController();
    let inner: AbortSignal | undefined;
    const work = (signal: AbortSignal) => {
      inner = signal;
      return gate.promise;
    };
    const leaving = map.run('a', work, { signal: controller.signal });
    const staying = map.run('a', work);
    controller.abort(new Error('bye'));
    await expect(leaving).rejects.toThrow('bye');
    expect(inner?.aborted).toBe(false);
    gate.resolve(1);
    expect(await staying).toBe(1);
  });

  it('aborts the work when the last caller leaves, and starts anew for the next', async () => {
    const map = new OnceMap<string, number>();
    const controller = new AbortController();
    let inner: AbortSignal | undefined;
    const leaving = map.run(
      'a',
      (signal) => {
        inner = signal;
        return new Promise<number>(() => {});
      },
      { signal: controller.signal },
    );
    controller.abort(new Error('bye'));
    await expect(leaving).rejects.toThrow('bye');
    expect(inner?.aborted).toBe(true);
    expect(await map.run('a', () => Promise.resolve(2))).toBe(2);
  });
});

describe('Deferred', () => {
  it('settles once', async () => {
    const deferred = new Deferred<number>();
    expect(deferred.settled).toBe(false);
    deferred.resolve(1);
    deferred.reject(new Error('late'));
    expect(deferred.settled).toBe(true);
    expect(await deferred.promise).toBe(1);
  });
});
