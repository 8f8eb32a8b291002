// The kinds of content that a registry must keep, each as the blobs and manifests of one repository.
import type { Descriptor } from '../../../src/oci/descriptor.ts';
import type { Digest, DigestAlgorithm } from '../../../src/oci/digest.ts';
import { mediaTypes } from '../../../src/oci/media-type.ts';
import { content, digestOf } from '../../support/registry-content.ts';
import type { Blob } from './actions.ts';

export interface KindManifest {
  readonly bytes: Buffer;
  readonly digest: Digest;
  readonly mediaType: string;
  readonly tags: readonly string[];
  readonly subject: Digest | undefined;
  /** What a list of referrers says of it. */
  readonly artifactType: string | undefined;
  readonly annotations: Readonly<Record<string, string>> | undefined;
}

export interface KindContent {
  readonly blobs: readonly Blob[];
  /** Those that others name come first. */
  readonly manifests: readonly KindManifest[];
}

export interface DataKind {
  readonly name: string;
  make(): KindContent;
}

interface ManifestFields {
  readonly mediaType?: string;
  readonly tags?: readonly string[];
  readonly algorithm?: DigestAlgorithm;
  readonly fields: Readonly<Record<string, unknown>>;
}

/** Collects the content of one kind. */
class Maker {
  readonly blobs: Blob[] = [];
  readonly manifests: KindManifest[] = [];

  /** Descriptor of a new blob. `pushed: false`: nobody pushes it. */
  blob(value: number | string, mediaType: string, options: { pushed?: boolean } = {}): Descriptor {
    const { bytes, descriptor } = content(value, mediaType);
    if (options.pushed !== false) this.blobs.push({ bytes, digest: descriptor.digest });
    return descriptor;
  }

  image(changes: Readonly<Record<string, unknown>> = {}, options: Partial<ManifestFields> = {}): Descriptor {
    const config = this.blob(JSON.stringify({ architecture: 'amd64', os: 'linux' }), mediaTypes.imageConfig);
    const layers = [this.blob(1_000, mediaTypes.layerGzip), this.blob(500, mediaTypes.layerGzip)];
    return this.manifest({ ...options, fields: { config, layers, ...changes } });
  }

  index(manifests: readonly Descriptor[], options: Partial<ManifestFields> = {}): Descriptor {
    const fields = { manifests, ...options.fields };
    return this.manifest({ tags: ['index'], ...options, mediaType: mediaTypes.imageIndex, fields });
  }

  artifact(artifactType: string, changes: Readonly<Record<string, unknown>> = {}): Descriptor {
    const config = this.blob('{}', mediaTypes.emptyJson);
    const layers = [this.blob(300, 'application/vnd.example.data')];
    return this.manifest({ fields: { artifactType, config, layers, ...changes } });
  }

  manifest({
    mediaType = mediaTypes.imageManifest,
    tags = [],
    algorithm = 'sha256',
    fields,
  }: ManifestFields): Descriptor {
    const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, ...fields }, undefined, 1));
    const digest = digestOf(bytes, algorithm);
    const known = fields as {
      subject?: Descriptor;
      artifactType?: string;
      config?: Descriptor;
      annotations?: Readonly<Record<string, string>>;
    };
    this.manifests.push({
      bytes,
      digest,
      mediaType,
      tags,
      subject: known.subject?.digest,
      artifactType: known.artifactType ?? known.config?.mediaType,
      annotations: known.annotations,
    });
    return { mediaType, digest, size: bytes.length };
  }
}

function kind(name: string, fill: (maker: Maker) => void): DataKind {
  return {
    name,
    make: () => {
      const maker = new Maker();
      fill(maker);
      return maker;
    },
  };
}

const tagged = { tags: ['v1', 'latest'] };

export const dataKinds: readonly DataKind[] = [
  kind('an image', (m) => void m.image({}, tagged)),
  kind('an image with uncompressed layers', (m) => void m.image({ layers: [m.blob(800, mediaTypes.layer)] }, tagged)),
  kind('a docker image', (m) => {
    const config = m.blob('{"os":"linux"}', mediaTypes.dockerConfig);
    const layers = [m.blob(700, mediaTypes.dockerLayerGzip)];
    m.manifest({ ...tagged, mediaType: mediaTypes.dockerManifest, fields: { config, layers } });
  }),
  kind('a manifest of 3.9 MB', (m) => {
    const entries = Array.from({ length: 390 }, (_, i) => [`org.example.${i}`, 'x'.repeat(10_000)]);
    m.image({ annotations: Object.fromEntries(entries) as Record<string, string> }, tagged);
  }),
  kind('an index of two platforms', (m) => {
    const platform = (architecture: string) => ({ platform: { os: 'linux', architecture } });
    m.index([
      { ...m.image(), ...platform('amd64') },
      { ...m.image(), ...platform('arm64') },
    ]);
  }),
  kind('an index in an index', (m) => void m.index([m.index([m.image()], { tags: [] })])),
  kind('an empty index', (m) => void m.index([])),
  kind('a sparse index', (m) => {
    const absent = content('nobody has this', mediaTypes.imageManifest).descriptor;
    m.index([m.image(), absent]);
  }),
  kind('an artifact', (m) => {
    const config = m.blob('{}', mediaTypes.emptyJson);
    const layers = [m.blob(300, 'application/vnd.example.data')];
    m.manifest({ ...tagged, fields: { artifactType: 'application/vnd.example.artifact', config, layers } });
  }),
  kind('an index of artifacts', (m) => {
    const manifests = [m.artifact('application/vnd.example.one'), m.artifact('application/vnd.example.two')];
    m.index(manifests, { fields: { artifactType: 'application/vnd.example.index' } });
  }),
  kind('an artifact without layers', (m) => {
    const config = m.blob('{}', mediaTypes.emptyJson);
    m.manifest({ ...tagged, fields: { artifactType: 'application/vnd.example.bare', config, layers: [config] } });
  }),
  kind('an image without layers', (m) => void m.image({ layers: [] }, tagged)),
  kind('an image and what refers to it', (m) => {
    const subject = m.image({}, tagged);
    m.image({ subject });
    m.artifact('application/vnd.example.sbom', { subject, annotations: { 'org.example.format': 'json' } });
    m.artifact('application/vnd.example.signature', { subject, annotations: { 'org.example.by': 'me', other: '' } });
  }),
  kind('an index that refers to an image', (m) => {
    const subject = m.image({}, tagged);
    const annotations = { 'org.example.of': 'index' };
    m.index([m.artifact('application/vnd.example.part')], {
      fields: { subject, artifactType: 'application/vnd.example.bundle', annotations },
    });
  }),
  kind('an artifact that refers to what is not there', (m) => {
    const subject = content('not pushed yet', mediaTypes.imageManifest).descriptor;
    m.artifact('application/vnd.example.early', { subject });
  }),
  kind('descriptors with data', (m) => {
    const text = '{"inlined":true}';
    const config = { ...m.blob(text, mediaTypes.imageConfig), data: Buffer.from(text).toString('base64') };
    m.image({ config }, tagged);
  }),
  kind('layers that are not distributable and were not pushed', (m) => {
    const layer = m.blob(400, 'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip', { pushed: false });
    m.image({ layers: [{ ...layer, urls: ['https://example.com/layer'] }] }, tagged);
  }),
  kind('fields that no specification has', (m) => {
    const config = { ...m.blob('{"new":1}', mediaTypes.imageConfig), 'x-new': [1, { deep: null }] };
    m.image({ config, 'x-unknown': { ключ: 'значение' }, annotations: { 'org.example.unicode': '☃' } }, tagged);
  }),
  kind('an image under its sha512', (m) => void m.image({}, { algorithm: 'sha512' })),
  kind('an index of sha512 under its sha512', (m) => {
    m.index([m.image({}, { algorithm: 'sha512' })], { algorithm: 'sha512', tags: [] });
  }),
];
