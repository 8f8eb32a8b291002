import { describe, expect, it } from 'vitest';
import { readPrefetch, writePrefetch } from '../../src/index/soci-prefetch.ts';

const json = (value: unknown) => Buffer.from(JSON.stringify(value));
const lists = (...ranges: unknown[]) => json({ version: '1.0', prefetch_spans: ranges });

describe('a prefetch artifact', () => {
  it('is written as SOCI has it, and read in its order', () => {
    const bytes = writePrefetch([3, 4, 5, 1]);
    expect(Buffer.from(bytes).toString()).toBe(
      '{"version":"1.0","prefetch_spans":[{"start_span":3,"end_span":5},{"start_span":1,"end_span":1}]}',
    );
    expect(readPrefetch(bytes, 6)).toEqual([3, 4, 5, 1]);
    const overlapping = lists({ start_span: 0, end_span: 2, priority: 1 }, { start_span: 1, end_span: 3 });
    expect(readPrefetch(overlapping, 4)).toEqual([0, 1, 2, 3]);
  });

  it.each([
    ['no JSON', Buffer.from('x')],
    ['another version', json({ version: '2.0', prefetch_spans: [] })],
    ['no list', json({ version: '1.0' })],
    ['a range that is none', lists(7)],
    ['a span past the end', lists({ start_span: 0, end_span: 6 })],
    ['an end before its start', lists({ start_span: 3, end_span: 2 })],
    ['a negative span', lists({ start_span: -1, end_span: 2 })],
    ['too many bytes', Buffer.alloc((16 << 20) + 1, 0x20)],
  ])('is refused with %s', (_, bytes) => {
    expect(() => readPrefetch(bytes, 6)).toThrow(expect.objectContaining({ name: 'IndexError' }) as Error);
  });

  it('is bounded', () => {
    expect(() => readPrefetch(lists({ start_span: 0, end_span: 70_000 }), 1 << 20)).toThrow(/more than the limit/);
  });
});
