// Pushes a SOCI index v1 of given zTOCs, as the SOCI tools lay it out; written here a second time on purpose, so that tests
// can push indexes that the product would not make.
import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import type { Descriptor } from '../../src/oci/descriptor.ts';
import { type Digest, digestFromSha256 } from '../../src/oci/digest.ts';
import type { Registry, Writer } from '../../src/registry/registry.ts';

export interface ZtocToPush {
  readonly layer: Descriptor;
  readonly bytes: Uint8Array;
  readonly spanSize: number;
}

export const sociConfigType = 'application/vnd.amazon.soci.index.v1+json';

const imageManifestType = 'application/vnd.oci.image.manifest.v1+json';

export async function pushSociIndex(
  registry: Writer,
  repository: string,
  subject: Descriptor,
  ztocs: readonly ZtocToPush[],
): Promise<Digest> {
  const config = await push(registry, repository, sociConfigType, Buffer.from('{}'));
  const layers: Descriptor[] = [];
  for (const { layer, bytes, spanSize } of ztocs) {
    const pushed = await push(registry, repository, 'application/octet-stream', bytes);
    const annotations = {
      'com.amazon.soci.image-layer-digest': layer.digest,
      'com.amazon.soci.image-layer-mediaType': layer.mediaType,
      'com.amazon.soci.span-size': String(spanSize),
    };
    layers.push({ ...pushed, annotations });
  }
  const manifest = {
    schemaVersion: 2,
    mediaType: imageManifestType,
    config,
    layers,
    subject: { mediaType: subject.mediaType, digest: subject.digest, size: subject.size },
    annotations: { 'com.amazon.soci.build-tool-identifier': 'peel tests' },
  };
  const bytes = Buffer.from(JSON.stringify(manifest));
  await registry.pushManifest(repository, undefined, bytes, imageManifestType);
  return digestOf(bytes);
}

async function push(registry: Writer, repository: string, mediaType: string, bytes: Uint8Array): Promise<Descriptor> {
  const descriptor = { mediaType, digest: digestOf(bytes), size: bytes.length };
  await registry.pushBlob(repository, descriptor, () => Readable.from([Buffer.from(bytes)]));
  return descriptor;
}

function digestOf(bytes: Uint8Array): Digest {
  return digestFromSha256(createHash('sha256').update(bytes).digest());
}

/** The zTOCs that the referrers of an image name, as another tool would find them. */
export async function pushedZtocs(
  registry: Registry,
  repository: string,
  subject: Descriptor,
): Promise<{ readonly layer: string; readonly bytes: Uint8Array; readonly spanSize: number }[]> {
  const found = [];
  for await (const { digest } of registry.referrers(repository, subject.digest, { artifactType: sociConfigType })) {
    const manifest = JSON.parse(Buffer.from((await registry.getManifest(repository, digest)).bytes).toString()) as {
      layers: Descriptor[];
    };
    for (const descriptor of manifest.layers) {
      const { body } = await registry.getBlob(repository, descriptor.digest);
      const bytes = Buffer.concat((await body.toArray()) as Buffer[]);
      const layer = descriptor.annotations?.['com.amazon.soci.image-layer-digest'] ?? '';
      found.push({ layer, bytes, spanSize: Number(descriptor.annotations?.['com.amazon.soci.span-size']) });
    }
  }
  return found;
}
