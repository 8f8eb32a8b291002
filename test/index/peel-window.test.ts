import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import binding from 'zstd-napi/binding.js';
import { IndexError } from '../../src/index/errors.ts';
import { decodeWindow } from '../../src/index/peel-window.ts';
import { ByteWriter } from '../../src/index/varint.ts';
import { mutate } from '../support/damage.ts';
import { rounds } from '../support/fixtures.ts';
import { windowFrame, windowRuns } from '../support/window-frame.ts';
import { noise } from './layers.ts';

const windowSize = 32_768;

/** With this content, whatever it is. */
function frameOf(content: Uint8Array, level = 12): Buffer {
  const frame = Buffer.alloc(content.length + 1024);
  return frame.subarray(0, new binding.CCtx().compress(frame, content, level));
}

function refusal(frame: Uint8Array): string {
  try {
    expect(decodeWindow(frame)).toHaveLength(windowSize);
  } catch (error) {
    if (!(error instanceof IndexError)) throw error;
    return `${error.code}: ${error.message}`;
  }
  return 'accepted';
}

function sparseWindow(pieces: readonly (readonly [number, Uint8Array])[]): Buffer {
  const window = Buffer.alloc(windowSize);
  for (const [at, piece] of pieces) window.set(piece.subarray(0, windowSize - at), at);
  return window;
}

const content = (...bytes: readonly number[]) => frameOf(Uint8Array.from(bytes));

function leb(value: number): Uint8Array {
  const writer = new ByteWriter();
  writer.uint(value);
  return writer.finish();
}

describe('decodeWindow', () => {
  const frame = windowFrame(Buffer.alloc(windowSize, 'x'));

  it('gives the window that a frame was made of', () => {
    const piece = fc.tuple(fc.nat(windowSize - 1), fc.uint8Array({ maxLength: 258 }));
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 20 }), fc.integer({ min: -5, max: 19 }), (pieces, level) => {
        const window = sparseWindow(pieces);
        expect(Buffer.from(decodeWindow(frameOf(windowRuns(window), level))).equals(window)).toBe(true);
      }),
      { numRuns: rounds(300, 30, 0.2) },
    );
  });

  it('takes a window that does not compress', () => {
    const window = noise(windowSize);
    const frame = windowFrame(window);
    expect(frame.length).toBeGreaterThan(32_000);
    expect(Buffer.from(decodeWindow(frame)).equals(window)).toBe(true);
  });

  it('gives each window memory of its own', () => {
    const [a, b] = ['a', 'b'].map((fill) => decodeWindow(windowFrame(Buffer.alloc(windowSize, fill))));
    expect([a?.[9], b?.[9]]).toEqual([97, 98]);
    expect(a?.buffer).not.toBe(b?.buffer);
  });

  it.each<[string, Uint8Array, string]>([
    ['nothing', Buffer.alloc(0), 'ends inside a number'],
    ['what is not zstd', Buffer.alloc(100, 'x'), 'cannot be decoded'],
    ['a window as it is', frameOf(Buffer.alloc(windowSize)), 'more bytes than its runs need'],
    ['more than a window takes', frameOf(Buffer.alloc(32_777)), 'cannot be decoded to 32776 bytes'],
    ['64 MiB of zeros', frameOf(Buffer.alloc(64 << 20), 1).subarray(0, 33_000), 'cannot be decoded'],
    ['two whole windows', Buffer.concat([frame, frame]), 'cannot be decoded to 32776 bytes'],
    ['two windows', Buffer.concat([content(1, 5, 1, 9), content(1, 5, 1, 9)]), 'more bytes than'],
    ['a frame that is too long', Buffer.concat([frame, Buffer.alloc(33_280)]), 'frame has 33'],
    ['no number of runs', content(), 'ends inside a number'],
    ['a longer number than needed', content(0x81, 0, 1, 1, 9), 'leading zeros'],
    ['a run too many', content(2, 5, 1, 9), 'states 2 runs in 4 bytes'],
    ['no room for the runs', content(...leb(2 ** 53 - 1), 0, 1, 9), 'runs in 11 bytes'],
    ['places that end', content(3, ...leb(300), ...leb(300), ...leb(300), ...leb(300), 5), 'ends inside a number'],
    ['a run of no bytes', content(2, 5, 0, 5, 1, 9, 9), 'run 0 is not one of its own'],
    ['a run that touches the one before', content(2, 5, 1, 0, 1, 9, 9), 'run 1 is not one of its own'],
    ['a run behind the window', content(1, ...leb(windowSize), 1, 9), 'run 0 does not end within the window'],
    ['a run that leaves the window', content(1, ...leb(windowSize - 1), 2, 9, 9), 'run 0 does not end within'],
    ['a run far away', content(2, 5, 1, ...leb(2 ** 53 - 1), 1, 9, 9), 'run 1 does not end within'],
    ['runs that leave it together', content(2, 1, 1, ...leb(windowSize - 2), 1, 9, 9), 'run 1 does not end within'],
    ['a byte too little', content(2, 5, 1, 5, 3, 9, 9, 9), 'ends inside a string of 3 bytes'],
    ['a byte too much', content(2, 5, 1, 5, 2, 9, 9, 9, 9), 'more bytes than its runs need'],
  ])('refuses %s', (_, frame, expected) => {
    expect(refusal(frame)).toMatch(/^ERR_INDEX_FORMAT: window frame/);
    expect(refusal(frame)).toContain(expected);
  });

  it('refuses a frame wherever it is cut, and decodes the next one', () => {
    const window = sparseWindow([
      [100, Buffer.from('some bytes')],
      [30_000, Buffer.from('and others')],
    ]);
    const frame = windowFrame(window);
    for (let length = 0; length < frame.length; length++) {
      expect(refusal(frame.subarray(0, length))).toContain('ERR_INDEX_FORMAT');
    }
    expect(Buffer.from(decodeWindow(frame)).equals(window)).toBe(true);
  });

  it('gives 32 768 bytes or refuses, whatever the damage', () => {
    const runs = windowRuns(Buffer.from(Array.from({ length: windowSize }, (_, i) => (i % 9 < 5 ? 0 : i % 97))));
    const whole = frameOf(runs);
    const times = rounds(5_000, 250, 0.1);
    // Of the frame, and of what is in it: its places, for the most part.
    for (const damaged of [
      (round: number) => mutate(whole, round, 60),
      (round: number) => frameOf(Buffer.concat([mutate(runs.subarray(0, 60), round, 60), runs.subarray(60)]), 1),
    ]) {
      let refused = 0;
      for (let round = 0; round < times; round++) if (refusal(damaged(round)) !== 'accepted') refused++;
      expect(refused).toBeGreaterThan(times / 10);
    }
  });
});
