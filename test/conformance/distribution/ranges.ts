import { expect } from 'vitest';
import { blobOf, blobPath, pushBlob } from './actions.ts';
import type { Suite } from './suite.ts';
import type { Answer } from './wire.ts';

const size = 2_048;

/** Range, and the bytes [from, to) it means; none for what cannot be given. */
const cases: readonly (readonly [string, number, number] | readonly [string])[] = [
  ['500-1499', 500, 1_500],
  ['500-', 500, size],
  ['-500', size - 500, size],
  ['2000-5000', 2_000, size],
  ['0-0', 0, 1],
  ['0-', 0, size],
  ['-5000', 0, size],
  ['2047-2047', 2_047, size],
  ['500-0'],
  ['5000-10000'],
  ['2048-'],
];

export function ranges(suite: Suite): void {
  const blob = blobOf(size);
  let repository: Promise<string> | undefined;
  const ask = async (headers: Record<string, string>): Promise<Answer> => {
    repository ??= (async () => {
      const name = suite.repository();
      await pushBlob(suite.wire, name, blob);
      return name;
    })();
    return await suite.wire.ask('GET', blobPath(await repository, blob.digest), { headers });
  };

  suite.section('Pulling blobs, ranges (RFC 9110 section 14)', () => {
    for (const [range, from, to] of cases) {
      if (from === undefined || to === undefined) {
        suite.requires(`bytes=${range} of ${size} is 416 with the size`, async () => {
          const answer = await ask({ range: `bytes=${range}` });
          expect([answer.status, answer.headers['content-range']]).toEqual([416, `bytes */${size}`]);
        });
        continue;
      }
      suite.requires(`bytes=${range} of ${size} is 206 with exactly these bytes`, async () => {
        const answer = await ask({ range: `bytes=${range}` });
        expect([answer.status, answer.headers['content-length']]).toEqual([206, String(to - from)]);
        expect(answer.headers['content-range']).toBe(`bytes ${from}-${to - 1}/${size}`);
        expect(answer.bytes.equals(blob.bytes.subarray(from, to))).toBe(true);
      });
    }
    suite.requires('GET and HEAD say that ranges are served', async () => {
      expect((await ask({})).headers['accept-ranges']).toBe('bytes');
    });
    suite.requires('other units are answered with the whole', async () => {
      const answer = await ask({ range: 'lines=1-2' });
      expect([answer.status, answer.bytes.equals(blob.bytes)]).toEqual([200, true]);
    });
    suite.requires('If-Range of this blob gives the range, of another one the whole', async () => {
      const etag = (await ask({})).headers.etag ?? '';
      const same = await ask({ range: 'bytes=0-9', 'if-range': etag });
      expect([same.status, same.bytes.length]).toEqual([206, 10]);
      const other = await ask({ range: 'bytes=0-9', 'if-range': '"other"' });
      expect([other.status, other.bytes.length]).toEqual([200, size]);
    });
  });
}
