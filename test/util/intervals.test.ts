import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import { Intervals } from '../../src/util/intervals.ts';

it('counts every point once, in whatever order stretches come', () => {
  const stretch = fc.tuple(fc.integer({ min: 0, max: 60 }), fc.integer({ min: -2, max: 12 }));
  fc.assert(
    fc.property(fc.array(stretch, { maxLength: 30 }), (stretches) => {
      const intervals = new Intervals();
      const points = new Set<number>();
      for (const [start, length] of stretches) {
        intervals.add(start, start + length);
        for (let point = start; point < start + length; point += 1) points.add(point);
        expect(intervals.total).toBe(points.size);
      }
    }),
  );
});
