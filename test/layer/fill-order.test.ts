import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FillOrder } from '../../src/layer/fill-order.ts';
import { rounds } from '../support/fixtures.ts';
import { evenSpans } from '../support/touched-layer.ts';

const mib = 1024 * 1024;

function take(order: FillOrder, count = Infinity): number[] {
  const taken: number[] = [];
  for (let span = order.next(); span !== undefined; span = taken.length < count ? order.next() : undefined)
    taken.push(span);
  return taken;
}

describe('FillOrder', () => {
  it('gives what is preferred, then what lies around the latest touch in its region, then the rest from the start', () => {
    const order = new FillOrder(evenSpans(24, mib));
    order.prefer([20, 3, 20]);
    order.touched(18);
    order.touched(9);
    const preferred = [20, 3];
    const around = [9, 8, 10, 11, 12, 13, 14, 15, 18, 17, 19, 16, 21, 22, 23];
    expect(take(order)).toEqual([...preferred, ...around, 0, 1, 2, 4, 5, 6, 7]);
  });

  it('turns to what is touched or preferred meanwhile', () => {
    const order = new FillOrder(evenSpans(24, mib));
    expect(take(order, 2)).toEqual([0, 1]);
    order.touched(23);
    expect(order.next()).toBe(23);
    order.prefer([5]);
    expect(order.next()).toBe(5);
    expect(order.next()).toBe(22);
  });

  it('gives again what is given back, first, and what is missing again in its order', () => {
    const order = new FillOrder(evenSpans(6, mib));
    order.prefer([4, 2]);
    expect(take(order, 3)).toEqual([4, 2, 0]);
    order.giveBack([2, 0]);
    expect(take(order)).toEqual([2, 0, 1, 3, 5]);
    order.again([5, 1]);
    expect(take(order)).toEqual([1, 5]);
  });

  it('gives each span once, whatever comes between', () => {
    const event = fc.oneof(fc.record({ touched: fc.nat(99) }), fc.record({ prefer: fc.array(fc.nat(99)) }), fc.nat(20));
    fc.assert(
      fc.property(fc.array(event), (events) => {
        const order = new FillOrder(evenSpans(100, mib / 4));
        const given: number[] = [];
        for (const event of events) {
          if (typeof event === 'number') given.push(...(event === 0 ? [] : take(order, event)));
          else if ('touched' in event) order.touched(event.touched);
          else order.prefer(event.prefer);
        }
        given.push(...take(order));
        expect(given.length).toBe(100);
        expect(new Set(given).size).toBe(100);
      }),
      { numRuns: rounds(1000, 50, 0.1) },
    );
  });
});
