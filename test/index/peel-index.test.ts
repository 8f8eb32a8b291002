import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { IndexError } from '../../src/index/errors.ts';
import { defaultIndexLimits } from '../../src/index/limits.ts';
import { readPeelIndex } from '../../src/index/peel-index-reader.ts';
import { peelIndexManifest, type PeelLayerInit } from '../../src/index/peel-index-writer.ts';
import { digestFromSha256 } from '../../src/oci/digest.ts';
import { mutate } from '../support/damage.ts';
import { rounds } from '../support/fixtures.ts';
import { sampleDigest } from './samples.ts';

const digestOf = (content: string) => digestFromSha256(sampleDigest(content));
const manifestType = 'application/vnd.oci.image.manifest.v1+json';
const indexType = 'application/vnd.peel.index.v1+json';
const subject = { mediaType: manifestType, digest: digestOf('image'), size: 5, annotations: { not: 'copied' } };

function layer(name: string, options: { windows?: number | undefined } = {}): PeelLayerInit {
  const { windows } = options;
  return {
    layer: { digest: digestOf(name) },
    spanSize: 262_144,
    table: { digest: digestOf(`${name} table`), size: 900 },
    windows: windows === undefined ? undefined : { digest: digestOf(`${name} windows`), size: windows },
  };
}

function sample(layers = [layer('a', { windows: 700 }), layer('b')]) {
  return peelIndexManifest({ subject, buildTool: 'peel <test>', layers });
}

interface IndexJson {
  artifactType?: string;
  config: Record<string, unknown>;
  layers: { mediaType: string; size: unknown; annotations?: Record<string, string> }[];
  subject?: unknown;
  annotations?: unknown;
  [more: string]: unknown;
}

/** The sample with a change made to its JSON. */
function changed(change: (json: IndexJson) => void): Uint8Array {
  const json = JSON.parse(Buffer.from(sample().manifest.bytes).toString()) as IndexJson;
  change(json);
  return Buffer.from(JSON.stringify(json));
}

function refusal(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (!(error instanceof IndexError)) throw error;
    return `${error.code}: ${error.message}`;
  }
  return 'accepted';
}

describe('peelIndexManifest', () => {
  it('is an artifact of our own, about the image, with one table a layer', () => {
    const { manifest, config } = sample();
    const named = { 'io.peel.index.layer-digest': digestOf('a') };
    expect(JSON.parse(Buffer.from(manifest.bytes).toString())).toEqual({
      schemaVersion: 2,
      mediaType: manifestType,
      artifactType: indexType,
      config: { mediaType: indexType, digest: digestOf('{}'), size: 2 },
      layers: [
        {
          mediaType: 'application/vnd.peel.index.table.v1',
          digest: digestOf('a table'),
          size: 900,
          annotations: { ...named, 'io.peel.index.span-size': '262144' },
        },
        {
          mediaType: 'application/vnd.peel.index.windows.v1',
          digest: digestOf('a windows'),
          size: 700,
          annotations: named,
        },
        {
          mediaType: 'application/vnd.peel.index.table.v1',
          digest: digestOf('b table'),
          size: 900,
          annotations: { 'io.peel.index.layer-digest': digestOf('b'), 'io.peel.index.span-size': '262144' },
        },
      ],
      subject: { mediaType: manifestType, digest: digestOf('image'), size: 5 },
      annotations: { 'io.peel.index.build-tool': 'peel <test>' },
    });
    expect(Buffer.from(config.bytes).toString()).toBe('{}');
    expect(manifest.descriptor).toEqual({
      mediaType: manifestType,
      artifactType: indexType,
      digest: digestFromSha256(sampleDigest(Buffer.from(manifest.bytes).toString())),
      size: manifest.bytes.length,
    });
  });

  it('has the same bytes when made again, and a layer that comes twice once', () => {
    const [a, b] = [layer('a', { windows: 700 }), layer('b')];
    const bytes = Buffer.from(sample([a, b, { ...a, spanSize: 1 }]).manifest.bytes).toString();
    expect(bytes).toBe(Buffer.from(sample().manifest.bytes).toString());
  });
});

describe('readPeelIndex', () => {
  it('reads what was written', () => {
    const name = fc.string({ minLength: 1 });
    const layers = fc.uniqueArray(fc.tuple(name, fc.option(fc.nat(), { nil: undefined })), { selector: ([n]) => n });
    fc.assert(
      fc.property(layers, fc.string(), (all, buildTool) => {
        const init = all.map(([n, windows]) => layer(n, { windows }));
        const index = readPeelIndex(peelIndexManifest({ subject, buildTool, layers: init }).manifest.bytes);
        expect(index.buildTool).toBe(buildTool);
        expect(index.subject).toEqual({ mediaType: manifestType, digest: digestOf('image'), size: 5 });
        expect(index.layers).toHaveLength(init.length);
        for (const [i, { layer: of, spanSize, table, windows }] of init.entries()) {
          const read = index.layers[i];
          expect(read).toMatchObject({ layer: of.digest, spanSize, table });
          if (windows === undefined) expect(read?.windows).toBeUndefined();
          else expect(read?.windows).toMatchObject(windows);
        }
      }),
      { numRuns: rounds(200, 20, 0.3) },
    );
  });

  it('passes over what it does not know', () => {
    const bytes = changed((json) => {
      json['later'] = { a: 1 };
      delete json.artifactType;
      delete json.annotations;
      json.layers.reverse();
      json.layers.push({
        ...(json.layers[0] as IndexJson['layers'][0]),
        mediaType: 'application/vnd.peel.index.more.v1',
      });
      for (const each of json.layers) {
        each.annotations = { ...each.annotations, 'io.peel.index.later': 'x', 'io.peel.index.span-size': '-3' };
      }
    });
    const index = readPeelIndex(bytes);
    expect(index.buildTool).toBeUndefined();
    expect(index.layers.map((each) => [each.layer, each.spanSize, each.windows?.size])).toEqual([
      [digestOf('b'), undefined, undefined],
      [digestOf('a'), undefined, 700],
    ]);
  });

  it.each<[string, Uint8Array, string]>([
    ['garbage', Buffer.from('garbage'), 'ERR_INDEX_FORMAT: peel index: manifest is not valid json'],
    [
      'another config',
      changed((json) => (json.config['mediaType'] = 'application/vnd.amazon.soci.index.v1+json')),
      'ERR_INDEX_UNSUPPORTED: not a peel index: its config has the media type "application/vnd.amazon',
    ],
    [
      'another artifact type',
      changed((json) => (json.artifactType = 'application/vnd.peel.index.v2+json')),
      'ERR_INDEX_UNSUPPORTED: not a peel index: its artifact type is "application/vnd.peel.index.v2+json"',
    ],
    ['no subject', changed((json) => delete json.subject), 'ERR_INDEX_FORMAT: peel index has no subject'],
    [
      'a table for no layer',
      changed((json) => delete json.layers[0]?.annotations),
      'ERR_INDEX_FORMAT: peel index layers[0] names no layer: io.peel.index.layer-digest is undefined',
    ],
    [
      'a table for what is no digest',
      changed((json) => (json.layers[2]!.annotations = { 'io.peel.index.layer-digest': 'sha256:0' })),
      'ERR_INDEX_FORMAT: peel index layers[2] names no layer: io.peel.index.layer-digest is "sha256:0"',
    ],
    [
      'two tables for a layer',
      changed((json) => json.layers.push(json.layers[0] as IndexJson['layers'][0])),
      `ERR_INDEX_FORMAT: peel index layers[3] is another application/vnd.peel.index.table.v1 for layer ${digestOf('a')}`,
    ],
    [
      'two windows for a layer',
      changed((json) => json.layers.push(json.layers[1] as IndexJson['layers'][0])),
      'ERR_INDEX_FORMAT: peel index layers[3] is another application/vnd.peel.index.windows.v1',
    ],
    [
      'windows without a table',
      changed((json) => json.layers.shift()),
      `ERR_INDEX_FORMAT: peel index has windows but no table for layer ${digestOf('a')}`,
    ],
    [
      'a size below zero',
      changed((json) => (json.layers[0]!.size = -1)),
      'ERR_INDEX_FORMAT: peel index: layers[0] size',
    ],
    [
      'too many layers',
      changed((json) => (json.layers = Array(5000).fill(json.layers[0]))),
      'ERR_INDEX_LIMIT: number of peel index layers is 5000',
    ],
    ['too many bytes', Buffer.alloc((4 << 20) + 1), 'ERR_INDEX_LIMIT: size of peel index'],
  ])('refuses %s', (_, bytes, expected) => {
    expect(refusal(() => readPeelIndex(bytes))).toContain(expected);
  });

  it('keeps to the limits it is given', () => {
    const { bytes } = sample().manifest;
    const limits = { ...defaultIndexLimits, descriptors: 2 };
    expect(refusal(() => readPeelIndex(bytes, { limits }))).toContain('number of peel index layers is 3');
  });

  it('refuses an index wherever it is cut', () => {
    const { bytes } = sample().manifest;
    for (let length = 0; length < bytes.length; length++) {
      expect(refusal(() => readPeelIndex(bytes.subarray(0, length)))).toContain('ERR_INDEX_FORMAT');
    }
  });

  it('damaged at random, is refused or sound', () => {
    const { bytes } = sample().manifest;
    const times = rounds(10_000, 500, 0.1);
    let refused = 0;
    for (let round = 0; round < times; round++) {
      const damaged = mutate(bytes, round, 500);
      const outcome = refusal(() => {
        const { layers } = readPeelIndex(damaged);
        for (const { layer: of, table, windows } of layers) {
          for (const digest of [of, table.digest, windows?.digest ?? of])
            expect(digest).toMatch(/^sha(256|512):[0-9a-f]+$/);
        }
        expect(new Set(layers.map((each) => each.layer)).size).toBe(layers.length);
      });
      if (outcome !== 'accepted') refused++;
    }
    expect(refused).toBeGreaterThan(times / 10);
  });
});
