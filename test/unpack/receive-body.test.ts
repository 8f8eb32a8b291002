import { Readable } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { receiveBody } from '../../src/unpack/receive-body.ts';
import { Deferred } from '../../src/util/deferred.ts';
import { content } from '../support/registry-content.ts';

const { descriptor } = content('blob');
const never = new AbortController().signal;

/** A body that gets what is pushed. */
function rig() {
  const body = new Readable({ read: () => {} });
  let closed = 0;
  return { body, reader: { descriptor, body, close: () => void (closed += 1) }, closes: () => closed };
}

async function settledSoon(promise: Promise<unknown>): Promise<boolean> {
  let settled = false;
  const settle = () => (settled = true);
  promise.then(settle, settle);
  for (let i = 0; i < 20; i += 1) await turn();
  return settled;
}

describe('receiveBody', () => {
  it('pauses while it is asked to, also at the last piece', async () => {
    const { body, reader, closes } = rig();
    const pauses: Deferred<void>[] = [];
    const taken: string[] = [];
    const done = receiveBody(
      reader,
      (piece) => {
        taken.push(Buffer.from(piece).toString());
        const pause = new Deferred<void>();
        pauses.push(pause);
        return pause.promise;
      },
      never,
    );
    body.push('one');
    await turn();
    body.push('two');
    expect(await settledSoon(done)).toBe(false);
    expect(taken).toEqual(['one']);
    pauses[0]?.resolve();
    await expect.poll(() => taken).toEqual(['one', 'two']);
    body.push(null);
    body.read(0);
    expect(await settledSoon(done)).toBe(false);
    pauses[1]?.resolve();
    await done;
    expect(closes()).toBe(1);
  });

  it.each<[string, (body: Readable) => void, string]>([
    ['the body', (body) => void body.destroy(new Error('reset')), 'reset'],
    ['somebody who closes it', (body) => void body.destroy(), 'closed before its end'],
  ])('fails with %s, and closes the reader', async (_what, end, message) => {
    for (const early of [true, false]) {
      const { body, reader, closes } = rig();
      if (early) body.on('error', () => {});
      if (early) end(body);
      if (early) await turn();
      const done = receiveBody(reader, () => undefined, never);
      if (!early) end(body);
      await expect(done).rejects.toThrow(early ? /reset|closed before its end/ : message);
      expect(closes()).toBe(1);
    }
  });

  it('fails with who takes the pieces, at once or later', async () => {
    for (const take of [
      () => Promise.reject(new Error('full')),
      () => {
        throw new Error('full');
      },
    ]) {
      const { body, reader, closes } = rig();
      const done = receiveBody(reader, take, never);
      body.push('one');
      await expect(done).rejects.toThrow('full');
      expect(closes()).toBe(1);
    }
  });

  it('ends with the signal, before and in the middle, and minds no failure after that', async () => {
    for (const early of [true, false]) {
      const { body, reader } = rig();
      const ending = new AbortController();
      if (early) ending.abort(new Error('enough'));
      const done = receiveBody(reader, () => undefined, ending.signal);
      ending.abort(new Error('enough'));
      await expect(done).rejects.toThrow('enough');
      body.destroy(new Error('late'));
      await turn();
    }
  });
});
