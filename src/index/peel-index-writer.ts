import type { Descriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import { mediaTypes } from '../oci/media-type.ts';
import { type Blob, blobOf } from './blob.ts';
import { encodeGoJson, goDescriptor, goStringMap } from './go-json.ts';
import { peelAnnotations, peelIndexType, peelTableType, peelWindowsType } from './peel-names.ts';

/** A blob whose bytes are kept somewhere. */
type BlobName = Pick<Descriptor, 'digest' | 'size'>;

export interface PeelIndexInit {
  /** The image manifest. */
  readonly subject: Descriptor;
  readonly buildTool: string;
  /** In the order of the image's layers; a layer that comes again is left out. */
  readonly layers: readonly PeelLayerInit[];
}

export interface PeelLayerInit {
  readonly layer: { readonly digest: Digest };
  /** Bytes of stream per span that were asked for. */
  readonly spanSize: number;
  readonly table: BlobName;
  /** Undefined for a layer that needs no windows. */
  readonly windows: BlobName | undefined;
}

/** The manifest of a peel index and its config. Push the config, the tables and the windows first, then the manifest. */
export function peelIndexManifest(init: PeelIndexInit): { readonly manifest: Blob; readonly config: Blob } {
  const config = blobOf(peelIndexType, Buffer.from('{}'));
  const first = new Map<Digest, PeelLayerInit>();
  for (const each of init.layers) if (!first.has(each.layer.digest)) first.set(each.layer.digest, each);
  const { mediaType, digest, size } = init.subject;
  const bytes = encodeGoJson({
    schemaVersion: 2,
    mediaType: mediaTypes.imageManifest,
    artifactType: peelIndexType,
    config: goDescriptor(config.descriptor),
    layers: [...first.values()].flatMap(layerDescriptors).map(goDescriptor),
    subject: goDescriptor({ mediaType, digest, size }),
    annotations: goStringMap({ [peelAnnotations.buildTool]: init.buildTool }),
  });
  const manifest = blobOf(mediaTypes.imageManifest, bytes);
  return { manifest: { ...manifest, descriptor: { ...manifest.descriptor, artifactType: peelIndexType } }, config };
}

function layerDescriptors({ layer, spanSize, table, windows }: PeelLayerInit): Descriptor[] {
  const named = { [peelAnnotations.layerDigest]: layer.digest };
  const descriptors: Descriptor[] = [
    {
      mediaType: peelTableType,
      digest: table.digest,
      size: table.size,
      annotations: { ...named, [peelAnnotations.spanSize]: String(spanSize) },
    },
  ];
  if (windows !== undefined) {
    descriptors.push({ mediaType: peelWindowsType, digest: windows.digest, size: windows.size, annotations: named });
  }
  return descriptors;
}
