import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { readSociIndex } from '../../src/index/soci-index.ts';
import { createSociIndex } from '../../src/index/soci-index-writer.ts';
import { digestFromSha256 } from '../../src/oci/digest.ts';
import { sampleDigest } from './samples.ts';

const digestOf = (content: string) => digestFromSha256(sampleDigest(content));
const manifestType = 'application/vnd.oci.image.manifest.v1+json';
const gzipLayer = 'application/vnd.oci.image.layer.v1.tar+gzip';

function sample(buildTool = 'peel <test> & \u2028 é "q"') {
  return createSociIndex({
    subject: { mediaType: manifestType, digest: digestOf('image'), size: 5, annotations: { not: 'copied' } },
    buildTool,
    ztocs: [
      {
        layer: { digest: digestOf('layer'), mediaType: gzipLayer },
        ztoc: Buffer.from('ztoc one'),
        spanSize: 4_194_304,
      },
    ],
  });
}

/** The sample with a change made to its JSON. */
function changed(change: (json: Record<string, unknown>) => void): Uint8Array {
  const json = JSON.parse(Buffer.from(sample().manifest.bytes).toString()) as Record<string, unknown>;
  change(json);
  return Buffer.from(JSON.stringify(json));
}

function code(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    return `${(error as { code?: string }).code}: ${(error as Error).message}`;
  }
  return 'accepted';
}

describe('createSociIndex', () => {
  it('writes the bytes that Go would', () => {
    const { manifest } = sample();
    const text = Buffer.from(manifest.bytes).toString();
    expect(text).toContain(
      '"annotations":{"com.amazon.soci.build-tool-identifier":"peel \\u003ctest\\u003e \\u0026 \\u2028 é \\"q\\""}}',
    );
    expect(text.endsWith('}')).toBe(true);
    expect(text).not.toContain('artifactType');
    // Digest of json.Marshal of the same ocispec.Manifest.
    expect(manifest.descriptor.digest).toBe('sha256:334635b3d4f8a7aecb0a7d61f6a8eaa43f40da001498450dd0e5852fef4d91c3');
    expect(manifest.descriptor.artifactType).toBe('application/vnd.amazon.soci.index.v1+json');
  });

  it('gives every blob once', () => {
    const { blobs } = createSociIndex({
      subject: { mediaType: manifestType, digest: digestOf('image'), size: 5 },
      buildTool: 't',
      ztocs: ['a', 'b', 'a'].map((layer) => ({
        layer: { digest: digestOf(layer), mediaType: gzipLayer },
        ztoc: Buffer.from(layer),
        spanSize: 1,
      })),
    });
    expect(blobs.map((blob) => Buffer.from(blob.bytes).toString())).toEqual(['{}', 'a', 'b']);
    for (const { descriptor, bytes } of blobs) {
      expect(descriptor.digest).toBe(`sha256:${createHash('sha256').update(bytes).digest('hex')}`);
      expect(descriptor.size).toBe(bytes.length);
    }
  });
});

describe('readSociIndex', () => {
  it('reads version 1', () => {
    const index = readSociIndex(sample().manifest.bytes);
    expect(index).toMatchObject({ version: 'v1', subject: { digest: digestOf('image'), size: 5 }, prefetch: [] });
    expect(index.layers).toEqual([
      {
        layer: digestOf('layer'),
        layerMediaType: gzipLayer,
        spanSize: 4_194_304,
        ztoc: expect.objectContaining({ digest: digestOf('ztoc one'), size: 8 }),
      },
    ]);
  });

  it('reads version 2, which has no subject, and its prefetch lists', () => {
    const bytes = changed((json) => {
      delete json['subject'];
      (json['config'] as Record<string, unknown>)['mediaType'] = 'application/vnd.amazon.soci.index.v2+json';
      (json['layers'] as unknown[]).push({
        mediaType: 'application/vnd.amazon.soci.prefetch.v1+json',
        digest: digestOf('prefetch'),
        size: 3,
        annotations: { 'com.amazon.soci.image-layer-digest': digestOf('layer') },
      });
    });
    const index = readSociIndex(bytes);
    expect(index).toMatchObject({ version: 'v2', subject: undefined });
    expect(index.layers).toHaveLength(1);
    expect(index.prefetch).toHaveLength(1);
  });

  it.each<[string, Uint8Array, string]>([
    ['garbage', Buffer.from('garbage'), 'ERR_INDEX_FORMAT: SOCI index: manifest is not valid json'],
    [
      'an unknown config',
      changed((j) => ((j['config'] as Record<string, unknown>)['mediaType'] = 'text/x')),
      'ERR_INDEX_UNSUPPORTED: not a SOCI index: its config has the media type "text/x"',
    ],
    [
      'version 1 without subject',
      changed((j) => delete j['subject']),
      'ERR_INDEX_FORMAT: SOCI index v1 has no subject',
    ],
    [
      'a zTOC for no layer',
      changed((j) => delete (j['layers'] as Record<string, unknown>[])[0]?.['annotations']),
      'ERR_INDEX_FORMAT: SOCI index layers[0] names no layer',
    ],
    [
      'too many layers',
      changed((j) => (j['layers'] = Array(5000).fill((j['layers'] as unknown[])[0]))),
      'ERR_INDEX_LIMIT: number of SOCI index layers is 5000',
    ],
    ['too many bytes', Buffer.alloc((4 << 20) + 1), 'ERR_INDEX_LIMIT: size of SOCI index'],
  ])('refuses %s', (_, bytes, expected) => {
    expect(code(() => readSociIndex(bytes))).toContain(expected);
  });
});
