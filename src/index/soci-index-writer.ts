import { createHash } from 'node:crypto';
import type { Descriptor } from '../oci/descriptor.ts';
import { type Digest, digestFromSha256 } from '../oci/digest.ts';
import { mediaTypes } from '../oci/media-type.ts';
import { encodeGoJson, goDescriptor, goStringMap } from './go-json.ts';
import { sociAnnotations, sociIndexTypes, ztocMediaType } from './soci-names.ts';

export interface SociIndexInit {
  /** The image manifest. */
  readonly subject: Descriptor;
  readonly buildTool: string;
  /** In the order of the image's layers. */
  readonly ztocs: readonly SociZtocInit[];
}

export interface SociZtocInit {
  readonly layer: { readonly digest: Digest; readonly mediaType: string };
  /** The bytes of the layer's zTOC. */
  readonly ztoc: Uint8Array;
  /** Bytes of stream per span that were asked for. */
  readonly spanSize: number;
}

export interface Blob {
  readonly descriptor: Descriptor;
  readonly bytes: Uint8Array;
}

/** What to push: the blobs first, into the image's repository, then the manifest. */
export interface SociIndexFiles {
  readonly manifest: Blob;
  /** The config `{}` and the zTOCs, each digest once. */
  readonly blobs: readonly Blob[];
}

/** Makes a SOCI index of version 1, in the bytes its own tools would give it. */
export function createSociIndex(init: SociIndexInit): SociIndexFiles {
  const config = blobOf(sociIndexTypes.v1, Buffer.from('{}'));
  const ztocs = init.ztocs.map(({ layer, ztoc, spanSize }) =>
    blobOf(ztocMediaType, ztoc, {
      [sociAnnotations.layerDigest]: layer.digest,
      [sociAnnotations.layerMediaType]: layer.mediaType,
      [sociAnnotations.spanSize]: String(spanSize),
    }),
  );
  const { mediaType, digest, size } = init.subject;
  const bytes = encodeGoJson({
    schemaVersion: 2,
    mediaType: mediaTypes.imageManifest,
    config: goDescriptor(config.descriptor),
    layers: ztocs.map((blob) => goDescriptor(blob.descriptor)),
    subject: goDescriptor({ mediaType, digest, size }),
    annotations: goStringMap({ [sociAnnotations.buildTool]: init.buildTool }),
  });
  const manifest = blobOf(mediaTypes.imageManifest, bytes);
  const blobs = new Map([config, ...ztocs].map((blob) => [blob.descriptor.digest, blob]));
  return {
    manifest: { ...manifest, descriptor: { ...manifest.descriptor, artifactType: sociIndexTypes.v1 } },
    blobs: [...blobs.values()],
  };
}

function blobOf(mediaType: string, bytes: Uint8Array, annotations?: Readonly<Record<string, string>>): Blob {
  const digest = digestFromSha256(createHash('sha256').update(bytes).digest());
  return {
    descriptor: { mediaType, digest, size: bytes.length, ...(annotations === undefined ? {} : { annotations }) },
    bytes,
  };
}
