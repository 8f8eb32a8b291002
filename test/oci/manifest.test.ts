import { describe, expect, it } from 'vitest';
import {
  effectiveArtifactType,
  maxManifestBytes,
  parseImageIndex,
  parseManifest,
  parseManifestOrIndex,
} from '../../src/oci/manifest.ts';
import { layerType, mediaTypes } from '../../src/oci/media-type.ts';

const digest = `sha256:${'1'.repeat(64)}`;
const descriptor = { mediaType: mediaTypes.layerGzip, digest, size: 10 };
const manifest = {
  schemaVersion: 2,
  mediaType: mediaTypes.imageManifest,
  config: { ...descriptor, mediaType: mediaTypes.imageConfig },
  layers: [descriptor],
};
const index = {
  schemaVersion: 2,
  mediaType: mediaTypes.imageIndex,
  manifests: [{ ...descriptor, platform: { os: 'linux', architecture: 'arm', variant: 'v7' } }],
};

function bytes(value: unknown): Uint8Array {
  return Buffer.from(JSON.stringify(value));
}

describe('parseManifestOrIndex', () => {
  it('reads an OCI manifest with subject, annotations and unknown fields', () => {
    const parsed = parseManifest(bytes({ ...manifest, subject: descriptor, annotations: { a: 'b' }, later: true }));
    expect(parsed.layers).toEqual([descriptor]);
    expect(parsed.subject?.digest).toBe(digest);
    expect(parsed.annotations).toEqual({ a: 'b' });
    expect(effectiveArtifactType(parsed)).toBe(mediaTypes.imageConfig);
  });

  it('reads an index with platforms', () => {
    expect(parseImageIndex(bytes(index)).manifests[0]?.platform).toEqual({
      os: 'linux',
      architecture: 'arm',
      variant: 'v7',
    });
  });

  it('reads docker manifests and lists', () => {
    expect(parseManifest(bytes({ ...manifest, mediaType: mediaTypes.dockerManifest })).mediaType).toBe(
      mediaTypes.dockerManifest,
    );
    expect(parseImageIndex(bytes({ ...index, mediaType: mediaTypes.dockerManifestList })).mediaType).toBe(
      mediaTypes.dockerManifestList,
    );
  });

  it('takes the media type from the registry, or from the fields, when the document has none', () => {
    const { mediaType: _, ...bare } = manifest;
    expect(parseManifestOrIndex(bytes(bare), `${mediaTypes.dockerManifest}; charset=utf-8`).mediaType).toBe(
      mediaTypes.dockerManifest,
    );
    expect(parseManifestOrIndex(bytes(bare), 'application/octet-stream').mediaType).toBe(mediaTypes.imageManifest);
    expect(parseManifestOrIndex(bytes({ schemaVersion: 2, manifests: [] })).kind).toBe('index');
  });

  it.each([
    ['not json', Buffer.from('<html>'), undefined, 'not valid json'],
    ['not utf-8', Buffer.from([0x22, 0xff, 0x22]), undefined, 'not valid json'],
    ['a list', bytes([]), undefined, 'not an object'],
    ['null', bytes(null), undefined, 'not an object'],
    ['schema 1', bytes({ schemaVersion: 1 }), undefined, 'schema 1'],
    ['no schema version', bytes({ ...manifest, schemaVersion: undefined }), undefined, 'schemaVersion'],
    ['another type', bytes({ ...manifest, mediaType: 'text/plain' }), undefined, 'text/plain'],
    ['a type other than sent', bytes(manifest), mediaTypes.imageIndex, 'was sent as'],
    ['both kinds at once', bytes({ ...manifest, manifests: [] }), undefined, 'another manifest format'],
    ['an index with layers', bytes({ ...index, layers: [] }), undefined, 'fields of a manifest'],
    ['layers that are no list', bytes({ ...manifest, layers: {} }), undefined, 'layers is not a list'],
    [
      'a bad digest',
      bytes({ ...manifest, layers: [{ ...descriptor, digest: 'sha256:x' }] }),
      undefined,
      'layers[0] digest',
    ],
    ['a negative size', bytes({ ...manifest, layers: [{ ...descriptor, size: -1 }] }), undefined, 'layers[0] size'],
    [
      'a size past 2^53',
      Buffer.from(JSON.stringify(manifest).replace('"size":10', '"size":9007199254740993')),
      undefined,
      'size',
    ],
    ['a fractional size', bytes({ ...manifest, config: { ...descriptor, size: 1.5 } }), undefined, 'config size'],
    ['no config', bytes({ ...manifest, config: undefined }), undefined, 'config'],
    ['an annotation that is a number', bytes({ ...manifest, annotations: { a: 1 } }), undefined, 'annotations "a"'],
    ['a subject that is a text', bytes({ ...manifest, subject: digest }), undefined, 'subject'],
    ['more than 4 MiB', Buffer.alloc(maxManifestBytes + 1, 0x20), undefined, 'more than'],
  ])('refuses %s', (_name, content, type, why) => {
    expect(() => parseManifestOrIndex(content, type)).toThrow(
      expect.objectContaining({ code: 'ERR_OCI_MANIFEST', message: expect.stringContaining(why) }),
    );
  });

  it('refuses an index where a manifest is wanted, and the other way round', () => {
    expect(() => parseManifest(bytes(index))).toThrow('found an image index');
    expect(() => parseImageIndex(bytes(manifest))).toThrow('found an image manifest');
  });
});

describe('layerType', () => {
  it.each([
    [mediaTypes.layer, 'none', false],
    [mediaTypes.layerGzip, 'gzip', false],
    [mediaTypes.layerZstd, 'zstd', false],
    ['application/vnd.oci.image.layer.nondistributable.v1.tar+gzip', 'gzip', true],
    ['application/vnd.docker.image.rootfs.diff.tar.gzip', 'gzip', false],
    ['application/vnd.docker.image.rootfs.diff.tar', 'none', false],
    ['application/vnd.docker.image.rootfs.foreign.diff.tar.gzip', 'gzip', true],
    ['Application/Vnd.Docker.Image.Rootfs.Diff.Tar.Gzip; q=1', 'gzip', false],
  ])('%s is %s, foreign %s', (mediaType, compression, foreign) => {
    expect(layerType(mediaType)).toEqual({ compression, foreign });
  });

  it('does not take anything else for a layer', () => {
    expect(layerType('application/vnd.in-toto+json')).toBeUndefined();
    expect(layerType('')).toBeUndefined();
  });
});
