import { describe, expect, it } from 'vitest';
import { Deferred } from '../../src/util/deferred.ts';
import { KeyedLock } from '../../src/util/keyed-lock.ts';

describe('KeyedLock', () => {
  it('runs one piece of work at a time for a key, and others meanwhile', async () => {
    const lock = new KeyedLock<string>();
    const [gate, log] = [new Deferred<void>(), [] as string[]];
    const first = lock.run('a', async () => {
      log.push('first');
      await gate.promise;
      throw new Error('failed');
    });
    const second = lock.run('a', async () => void log.push('second'));
    await lock.run('b', async () => void log.push('other'));
    expect(log).toEqual(['first', 'other']);
    gate.resolve();
    await expect(first).rejects.toThrow('failed');
    await second;
    expect(log).toEqual(['first', 'other', 'second']);
    expect(lock.size).toBe(0);
  });

  it('lets one that waits leave, and still keeps the others apart', async () => {
    const lock = new KeyedLock<string>();
    const [gate, leaving, next] = [new Deferred<void>(), new AbortController(), new Deferred<void>()];
    const first = lock.run('a', () => gate.promise);
    const left = lock.run('a', async () => {}, { signal: leaving.signal });
    leaving.abort(new Error('enough'));
    gate.resolve();
    await first;
    const running = lock.run('a', () => next.promise);
    await expect(left).rejects.toThrow('enough');
    let overtook = false;
    const last = lock.run('a', async () => void (overtook = true));
    await Promise.resolve();
    expect(overtook).toBe(false);
    next.resolve();
    await Promise.all([running, last]);
    expect(lock.size).toBe(0);
  });
});
