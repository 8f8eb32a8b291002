// The bytes of profiles: written, read, and refused when they are not what they should be.
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { rangesOf } from '../../src/index/peel-profile.ts';
import type { ProfileLayer } from '../../src/index/peel-profile.ts';
import { readProfileManifest, readProfileSpans } from '../../src/index/peel-profile-reader.ts';
import { createPeelProfile } from '../../src/index/peel-profile-writer.ts';
import { parseDigest } from '../../src/oci/digest.ts';
import { rounds } from '../support/fixtures.ts';

const digest = (letter: string) => parseDigest(`sha256:${letter.repeat(64)}`);
const subject = { mediaType: 'application/vnd.oci.image.manifest.v1+json', digest: digest('a'), size: 1234 };
const layer: ProfileLayer = {
  layer: digest('b'),
  index: digest('c'),
  format: 'peel',
  spanCount: 40,
  runs: 3,
  spans: [0, 1, 2, 17, 4, 3],
};
const make = (layers: readonly ProfileLayer[]) => createPeelProfile({ subject, recordedAt: 1_750_000_000_000, layers });
const spansOf = (layers: readonly ProfileLayer[]) => make(layers).blobs[1]?.bytes ?? new Uint8Array();

const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
const good = {
  layer: digest('b'),
  index: digest('c'),
  indexFormat: 'peel',
  spanCount: 40,
  runs: 3,
  spans: [[0, 3]] as unknown,
};
const profile = (change: Partial<Record<keyof typeof good, unknown>>) =>
  json({ version: 1, layers: [{ ...good, ...change }] });

describe('a profile', () => {
  it('is read as it was written, in bytes that depend on nothing else', () => {
    const { manifest, blobs } = make([layer]);
    expect(readProfileSpans(spansOf([layer]))).toEqual([layer]);
    expect(Buffer.from(make([layer]).manifest.bytes).equals(Buffer.from(manifest.bytes))).toBe(true);
    const read = readProfileManifest(manifest.bytes);
    expect(read.subject).toEqual(subject);
    expect(read.created).toBe('2025-06-15T15:06:40.000Z');
    expect(read.spans).toEqual(blobs[1]?.descriptor);
    expect(JSON.parse(Buffer.from(manifest.bytes).toString())).toMatchObject({
      artifactType: 'application/vnd.peel.profile.v1+json',
      config: { mediaType: 'application/vnd.peel.profile.v1+json', size: 2 },
      layers: [{ mediaType: 'application/vnd.peel.profile.spans.v1+json' }],
    });
  });

  it('keeps any order', () => {
    const spans = fc.uniqueArray(fc.nat(99), { maxLength: 100 });
    fc.assert(
      fc.property(spans, (order) => {
        const written = { ...layer, spanCount: 100, spans: order };
        expect(readProfileSpans(spansOf([written]))).toEqual([written]);
      }),
      { numRuns: rounds(1, 30, 200) },
    );
    expect(rangesOf([5, 6, 7, 2, 1, 3])).toEqual([
      [5, 8],
      [2, 3],
      [1, 2],
      [3, 4],
    ]);
  });

  it.each([
    ['no JSON', Buffer.from('{'), /valid json/],
    ['a list', json([]), /not an object/],
    ['no version', json({ layers: [] }), /no version/],
    ['a newer version', json({ version: 2, layers: [] }), /has version 2/],
    ['no layers', json({ version: 1 }), /no list of layers/],
    ['too many layers', json({ version: 1, layers: Array.from({ length: 4097 }, () => good) }), /4097/],
    ['a layer that is none', json({ version: 1, layers: [null] }), /layers\[0\] is not an object/],
    ['a layer twice', json({ version: 1, layers: [good, good] }), /twice/],
    ['a digest that is none', profile({ layer: '../../etc' }), /no valid layer digest/],
    ['no index', profile({ index: 7 }), /no valid index digest/],
    ['an unknown format', profile({ indexFormat: 'x' }), /index format/],
    ['a span count that is none', profile({ spanCount: -1 }), /span count/],
    ['a huge span count', profile({ spanCount: 2 ** 40 }), /span count/],
    ['no runs', profile({ runs: 0 }), /number of runs/],
    ['no list of spans', profile({ spans: {} }), /no list of spans/],
    ['a span past the end', profile({ spans: [[39, 41]] }), /none of its 40/],
    ['a negative span', profile({ spans: [[-1, 2]] }), /none of its 40/],
    ['an empty range', profile({ spans: [[3, 3]] }), /none of its 40/],
    ['a range of three', profile({ spans: [[1, 2, 3]] }), /none of its 40/],
    ['a fraction', profile({ spans: [[0.5, 2]] }), /none of its 40/],
    ['a number', profile({ spans: [4] }), /none of its 40/],
    [
      'a span twice',
      profile({
        spans: [
          [0, 4],
          [3, 5],
        ],
      }),
      /a span twice/,
    ],
    ['too many spans', profile({ spanCount: 1 << 20, spans: [[0, 65_537]] }), /more than the limit of 65536/],
    ['too many bytes', Buffer.alloc((16 << 20) + 1, 0x20), /more than the limit/],
  ])('is refused with %s', (_, bytes, message) => {
    expect(() => readProfileSpans(bytes)).toThrow(message);
  });

  it('is refused when its manifest is something else', () => {
    const changed = (change: Record<string, unknown>) =>
      json({ ...(JSON.parse(Buffer.from(make([layer]).manifest.bytes).toString()) as object), ...change });
    expect(readProfileManifest(changed({ artifactType: undefined })).subject).toEqual(subject);
    expect(() => readProfileManifest(changed({ artifactType: 'text/plain' }))).toThrow(/its type is "text\/plain"/);
    expect(() => readProfileManifest(changed({ subject: undefined }))).toThrow(/no subject/);
    expect(() => readProfileManifest(changed({ layers: [] }))).toThrow(/not exactly one/);
    const [descriptor] = readProfileManifest(make([layer]).manifest.bytes).spans ? make([layer]).blobs : [];
    expect(() => readProfileManifest(changed({ config: { ...descriptor?.descriptor, mediaType: 'x/y' } }))).toThrow(
      /its type is "x\/y"/,
    );
    const huge = { ...make([layer]).blobs[1]?.descriptor, size: (16 << 20) + 1 };
    expect(() => readProfileManifest(changed({ layers: [huge] }))).toThrow(/more than the limit/);
  });
});
