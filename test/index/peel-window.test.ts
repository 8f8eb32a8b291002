import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import binding from 'zstd-napi/binding.js';
import { IndexError } from '../../src/index/errors.ts';
import { decodeWindow } from '../../src/index/peel-window.ts';
import { mutate } from '../support/damage.ts';
import { rounds } from '../support/fixtures.ts';
import { noise } from './layers.ts';

const windowSize = 32_768;

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

describe('decodeWindow', () => {
  it('gives the window that a frame was made of', () => {
    const piece = fc.tuple(fc.nat(windowSize - 1), fc.uint8Array({ maxLength: 258 }));
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 20 }), fc.integer({ min: -5, max: 19 }), (pieces, level) => {
        const window = sparseWindow(pieces);
        expect(Buffer.from(decodeWindow(frameOf(window, level))).equals(window)).toBe(true);
      }),
      { numRuns: rounds(300, 30, 0.2) },
    );
  });

  it('takes a window that does not compress', () => {
    const window = noise(windowSize);
    const frame = frameOf(window);
    expect(frame.length).toBeGreaterThan(32_000);
    expect(Buffer.from(decodeWindow(frame)).equals(window)).toBe(true);
  });

  it('gives each window memory of its own', () => {
    const [a, b] = ['a', 'b'].map((fill) => decodeWindow(frameOf(Buffer.alloc(windowSize, fill))));
    expect([a?.[9], b?.[9]]).toEqual([97, 98]);
    expect(a?.buffer).not.toBe(b?.buffer);
  });

  it.each<[string, Uint8Array, string]>([
    ['nothing', Buffer.alloc(0), 'decodes to 0 bytes instead of 32768'],
    ['what is not zstd', Buffer.alloc(100, 'x'), 'cannot be decoded'],
    ['a byte too little', frameOf(Buffer.alloc(windowSize - 1)), 'decodes to 32767 bytes'],
    ['a byte too much', frameOf(Buffer.alloc(windowSize + 1)), 'cannot be decoded to 32768 bytes'],
    ['a gigabyte of zeros', frameOf(Buffer.alloc(1 << 30), 1).subarray(0, 33_000), 'cannot be decoded'],
    ['two windows', Buffer.concat([frameOf(Buffer.alloc(windowSize)), frameOf(Buffer.alloc(windowSize))]), 'cannot be'],
    [
      'a frame that is too long',
      Buffer.concat([frameOf(Buffer.alloc(windowSize)), Buffer.alloc(33_280)]),
      'frame has 33',
    ],
  ])('refuses %s', (_, frame, expected) => {
    expect(refusal(frame)).toMatch(/^ERR_INDEX_FORMAT: window frame/);
    expect(refusal(frame)).toContain(expected);
  });

  it('refuses a frame wherever it is cut, and decodes the next one', () => {
    const window = sparseWindow([
      [100, Buffer.from('some bytes')],
      [30_000, Buffer.from('and others')],
    ]);
    const frame = frameOf(window);
    for (let length = 0; length < frame.length; length++) {
      expect(refusal(frame.subarray(0, length))).toContain('ERR_INDEX_FORMAT');
    }
    expect(Buffer.from(decodeWindow(frame)).equals(window)).toBe(true);
  });

  it('gives 32 768 bytes or refuses, whatever the damage', () => {
    const frame = frameOf(Buffer.from(Array.from({ length: windowSize }, (_, i) => (i % 97) * (i % 3))));
    const times = rounds(10_000, 500, 0.1);
    let refused = 0;
    for (let round = 0; round < times; round++) if (refusal(mutate(frame, round, 60)) !== 'accepted') refused++;
    expect(refused).toBeGreaterThan(times / 10);
  });
});
