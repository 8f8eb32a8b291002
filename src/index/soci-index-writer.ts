import type { Descriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import { mediaTypes } from '../oci/media-type.ts';
import { type Blob, blobOf } from './blob.ts';
import { encodeGoJson, goDescriptor, goStringMap } from './go-json.ts';
import { sociAnnotations, sociIndexTypes, ztocMediaType } from './soci-names.ts';

export interface SociIndexInit<Ztoc = Uint8Array> {
  /** The image manifest. */
  readonly subject: Descriptor;
  readonly buildTool: string;
  /** In the order of the image's layers. */
  readonly ztocs: readonly SociZtocInit<Ztoc>[];
}

export interface SociZtocInit<Ztoc = Uint8Array> {
  readonly layer: { readonly digest: Digest; readonly mediaType: string };
  /** The layer's zTOC: its bytes, or what names them. */
  readonly ztoc: Ztoc;
  /** Bytes of stream per span that were asked for. */
  readonly spanSize: number;
}

/** A zTOC whose bytes are kept somewhere. */
export type ZtocName = Pick<Descriptor, 'digest' | 'size'>;

/** What to push: the blobs first, into the image's repository, then the manifest. */
export interface SociIndexFiles {
  readonly manifest: Blob;
  /** The config `{}` and the zTOCs, each digest once. */
  readonly blobs: readonly Blob[];
}

/** The manifest of a SOCI index of version 1, in the bytes its own tools would give it, and its config. */
export function sociIndexManifest(init: SociIndexInit<ZtocName>): { readonly manifest: Blob; readonly config: Blob } {
  const config = blobOf(sociIndexTypes.v1, Buffer.from('{}'));
  const { mediaType, digest, size } = init.subject;
  const bytes = encodeGoJson({
    schemaVersion: 2,
    mediaType: mediaTypes.imageManifest,
    config: goDescriptor(config.descriptor),
    layers: init.ztocs.map((each) => goDescriptor(ztocDescriptor(each))),
    subject: goDescriptor({ mediaType, digest, size }),
    annotations: goStringMap({ [sociAnnotations.buildTool]: init.buildTool }),
  });
  const manifest = blobOf(mediaTypes.imageManifest, bytes);
  return {
    manifest: { ...manifest, descriptor: { ...manifest.descriptor, artifactType: sociIndexTypes.v1 } },
    config,
  };
}

/** The same with the zTOCs at hand: everything that is to be pushed. */
export function createSociIndex(init: SociIndexInit): SociIndexFiles {
  const ztocs = init.ztocs.map((each) => {
    const named = { ...each, ztoc: blobOf(ztocMediaType, each.ztoc).descriptor };
    return { named, blob: { descriptor: ztocDescriptor(named), bytes: each.ztoc } };
  });
  const { manifest, config } = sociIndexManifest({ ...init, ztocs: ztocs.map(({ named }) => named) });
  const blobs = [config, ...ztocs.map(({ blob }) => blob)];
  return { manifest, blobs: [...new Map(blobs.map((blob) => [blob.descriptor.digest, blob])).values()] };
}

function ztocDescriptor({ layer, ztoc, spanSize }: SociZtocInit<ZtocName>): Descriptor {
  return {
    mediaType: ztocMediaType,
    digest: ztoc.digest,
    size: ztoc.size,
    annotations: {
      [sociAnnotations.layerDigest]: layer.digest,
      [sociAnnotations.layerMediaType]: layer.mediaType,
      [sociAnnotations.spanSize]: String(spanSize),
    },
  };
}
