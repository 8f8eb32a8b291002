import { join } from 'node:path';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { LogRing } from '../../src/observe/log-ring.ts';
import { createAdjustableLog } from '../../src/observe/log.ts';
import { tempDir } from '../support/tmp.ts';

describe('LogRing', () => {
  it('keeps the last lines, and no more bytes than it may', () => {
    const ring = new LogRing({ maxLines: 3, maxBytes: 10 });
    for (const line of ['a', 'b', 'c', 'd']) ring.push(line);
    expect([ring.tail(2), ring.tail(9), ring.tail(0)]).toEqual([['c', 'd'], ['b', 'c', 'd'], []]);
    ring.push('12345678');
    expect(ring.tail(9)).toEqual(['c', 'd', '12345678']);
    ring.push('longer than the ring');
    expect(ring.tail(9)).toEqual(['longer than the ring']);
  });

  it('tells followers until they leave', () => {
    const ring = new LogRing();
    const seen: string[] = [];
    ring.push('before');
    const leave = ring.follow((line) => seen.push(line));
    ring.push('now');
    leave();
    ring.push('after');
    expect(seen).toEqual(['now']);
  });
});

describe('createAdjustableLog', () => {
  it('writes the same lines to the ring, without secrets, at the level of the moment', () => {
    const file = join(tempDir(), 'log');
    const ring = new LogRing();
    const { log, setLevel } = createAdjustableLog({ level: 'warn', to: file, ring });
    const child = log.child({ component: 'x' }).child({ mount: 'm' });
    child.info({}, 'left out');
    child.warn({ password: 'secret' }, 'first');
    setLevel('debug');
    child.debug({}, 'second');
    setLevel('silent');
    child.error({}, 'left out');
    const lines = ring.tail(10).map((line) => JSON.parse(line) as unknown);
    expect(lines).toMatchObject([
      { component: 'x', mount: 'm', msg: 'first', password: '[Redacted]' },
      { mount: 'm', msg: 'second' },
    ]);
    expect(readFileSync(file, 'utf8').trimEnd().split('\n')).toEqual(ring.tail(10));
  });
});
