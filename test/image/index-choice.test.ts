import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { orderCandidates } from '../../src/image/index-choice.ts';
import type { IndexChoice } from '../../src/image/index-choice.ts';
import { parseDigest } from '../../src/oci/digest.ts';
import { ImageLab, labLayer } from '../support/image-lab.ts';
import { tarOf } from '../support/tar-members.ts';

const digest = (c: string) => parseDigest(`sha256:${c.repeat(64)}`);
const candidates = [
  { digest: digest('c'), created: undefined },
  { digest: digest('2'), created: '2024-01-01T00:00:00Z' },
  { digest: digest('1'), created: '2024-01-01T01:00:00+01:00' },
  { digest: digest('3'), created: '2024-01-01T00:00:00.5Z' },
  { digest: digest('b'), created: 'yesterday' },
  { digest: digest('4'), created: '2019-01-01T00:00:00Z' },
];

describe('orderCandidates', () => {
  it.each<[IndexChoice, string]>([
    ['newest', '3124bc'],
    ['oldest', '4123bc'],
    ['registry', 'c213b4'],
  ])('%s', (choice, order) => {
    for (const given of choice === 'registry' ? [candidates] : [candidates, candidates.toReversed()]) {
      expect(
        orderCandidates(given, choice)
          .map((each) => each.digest.at(-1))
          .join(''),
      ).toBe(order);
    }
  });
});

describe('an image with several indexes', () => {
  it('is opened by the newest', async () => {
    const lab = await ImageLab.start();
    const image = await lab.push('1', [labLayer(tarOf({ path: 'f', data: randomBytes(100_000) }))]);
    const made = ['2024-01-01T00:00:00Z', '2025-01-01T00:00:00Z', '2023-01-01T00:00:00Z', undefined].map(
      async (created, i) =>
        (await lab.pushIndex(image, { spanSize: 16_384 * (i + 1), ...(created === undefined ? {} : { created }) }))
          .manifest.descriptor.digest,
    );
    const [, newest] = await Promise.all(made);
    const node = await lab.node();
    const opened = await node.openImage(image.reference);
    expect(opened.layers()[0]?.index?.digest).toBe(newest);
    await opened.close();
  });
});
