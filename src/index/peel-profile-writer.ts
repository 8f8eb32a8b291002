import type { Descriptor } from '../oci/descriptor.ts';
import { mediaTypes } from '../oci/media-type.ts';
import { type Blob, blobOf } from './blob.ts';
import { encodeGoJson, goDescriptor, goStringMap } from './go-json.ts';
import { createdAnnotation } from './created-annotation.ts';
import { type ProfileLayer, rangesOf } from './peel-profile.ts';
import { peelProfileSpansType, peelProfileType, profileVersion } from './profile-names.ts';

export interface PeelProfileInit {
  /** The image manifest. */
  readonly subject: Descriptor;
  /** When it was recorded last, ms since the epoch. */
  readonly recordedAt: number;
  /** In the order of the image's layers. */
  readonly layers: readonly ProfileLayer[];
}

/** What to push: the blobs first, into the image's repository, then the manifest. Equal input gives equal bytes. */
export interface PeelProfileFiles {
  readonly manifest: Blob;
  /** The config and the spans. */
  readonly blobs: readonly Blob[];
}

/** docs/profile.md */
export function createPeelProfile({ subject, recordedAt, layers }: PeelProfileInit): PeelProfileFiles {
  const config = blobOf(peelProfileType, Buffer.from('{}'));
  const spans = blobOf(peelProfileSpansType, encodeSpans(layers));
  const { mediaType, digest, size } = subject;
  const bytes = encodeGoJson({
    schemaVersion: 2,
    mediaType: mediaTypes.imageManifest,
    artifactType: peelProfileType,
    config: goDescriptor(config.descriptor),
    layers: [goDescriptor(spans.descriptor)],
    subject: goDescriptor({ mediaType, digest, size }),
    annotations: goStringMap({ [createdAnnotation]: new Date(recordedAt).toISOString() }),
  });
  const manifest = blobOf(mediaTypes.imageManifest, bytes);
  return {
    manifest: { ...manifest, descriptor: { ...manifest.descriptor, artifactType: peelProfileType } },
    blobs: [config, spans],
  };
}

function encodeSpans(layers: readonly ProfileLayer[]): Uint8Array {
  return encodeGoJson({
    version: profileVersion,
    layers: layers.map(({ layer, index, format, spanCount, runs, spans }) => ({
      layer,
      index,
      indexFormat: format,
      spanCount,
      runs,
      spans: rangesOf(spans),
    })),
  });
}
