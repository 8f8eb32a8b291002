import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FileMap, type FilePlace } from '../../src/layer/file-map.ts';
import { rounds } from '../support/fixtures.ts';

/** Gaps and lengths, one after the other. */
const steps = fc.array(fc.tuple(fc.nat(3), fc.integer({ min: 1, max: 4 })), { maxLength: 12 });

describe('FileMap', () => {
  it('finds what a search of all files finds', () => {
    fc.assert(
      fc.property(steps, fc.nat(90), (shape, offset) => {
        const files: FilePlace[] = [];
        for (const [gap, length] of shape) {
          const start = (files.at(-1)?.end ?? 0) + gap;
          files.push({ start, end: start + length });
        }
        const map = new FileMap(Float64Array.from(files.flatMap(({ start, end }) => [start, end])));
        expect(map.count).toBe(files.length);
        expect(map.fileAt(offset)).toEqual(files.find(({ start, end }) => start <= offset && offset < end));
        expect(map.nextFile(offset)).toEqual(files.find(({ start }) => start >= offset));
        expect(map.previousFile(offset)).toEqual(files.findLast(({ end }) => end <= offset));
      }),
      { numRuns: rounds(2000, 100, 0.1) },
    );
  });
});
