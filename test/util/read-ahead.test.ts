import { setTimeout as delay } from 'node:timers/promises';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readAhead } from '../../src/util/read-ahead.ts';

async function* from(pieces: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* pieces;
}

describe('readAhead', () => {
  it('gives the same bytes in pieces no larger than asked for', async () => {
    const sources = fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 20 });
    await fc.assert(
      fc.asyncProperty(sources, fc.integer({ min: 1, max: 32 }), fc.boolean(), async (source, size, slow) => {
        const seen: Buffer[] = [];
        for await (const piece of readAhead(from(source), size)) {
          expect(piece.length).toBeGreaterThan(0);
          expect(piece.length).toBeLessThanOrEqual(size);
          if (slow) await new Promise(setImmediate);
          // Only now: the memory must not have been filled again while the piece was in use.
          seen.push(Buffer.from(piece));
        }
        expect(Buffer.concat(seen)).toEqual(Buffer.concat(source));
      }),
      { numRuns: 100 },
    );
  });

  it('reads on while a piece is in use, up to its size', async () => {
    let given = 0;
    async function* counted(): AsyncGenerator<Uint8Array> {
      for (;;) {
        given += 10;
        yield Buffer.alloc(10);
      }
    }
    const pieces = readAhead(counted(), 100);
    expect((await pieces.next()).value).toHaveLength(10);
    await delay(5);
    expect(given).toBeLessThanOrEqual(130);
    expect((await pieces.next()).value).toHaveLength(100);
    await pieces.return(undefined);
  });

  it('gives what has come from a slow source at once', async () => {
    async function* slow(): AsyncGenerator<Uint8Array> {
      yield Buffer.from('a');
      await delay(60_000, undefined, { ref: false });
    }
    const pieces = readAhead(slow(), 100);
    expect(Buffer.from((await pieces.next()).value as Uint8Array).toString()).toBe('a');
    // Leaving does not wait for a source that says nothing.
    await pieces.return(undefined);
  });

  it('tells a failure behind the bytes before it', async () => {
    async function* failing(): AsyncGenerator<Uint8Array> {
      yield Buffer.from('ab');
      throw new Error('broken');
    }
    const pieces = readAhead(failing(), 1);
    expect((await pieces.next()).value?.toString()).toBe('a');
    expect((await pieces.next()).value?.toString()).toBe('b');
    await expect(pieces.next()).rejects.toThrow('broken');
  });

  it('ends the source when its reader leaves', async () => {
    let ended = false;
    async function* endless(): AsyncGenerator<Uint8Array> {
      try {
        for (;;) yield Buffer.alloc(10);
      } finally {
        ended = true;
      }
    }
    for await (const piece of readAhead(endless(), 16)) if (piece.length > 0) break;
    expect(ended).toBe(true);
  });
});
