// Manifests that need no blobs.
import { expect } from 'vitest';
import type { Descriptor } from '../../../src/oci/descriptor.ts';
import type { Digest, DigestAlgorithm } from '../../../src/oci/digest.ts';
import { manifestMediaTypes, mediaTypes } from '../../../src/oci/media-type.ts';
import { content, digestOf } from '../../support/registry-content.ts';
import { putManifest } from './actions.ts';
import type { Suite } from './suite.ts';

/** Some registries give another manifest, or none, to who does not say what it can read. */
export const accepting = { headers: { accept: manifestMediaTypes.join(', ') } };

export interface SimpleManifest {
  readonly bytes: Buffer;
  readonly descriptor: Descriptor;
  readonly digest: Digest;
}

/** An index of nothing, made different from others by `note`. */
export function emptyIndex(note: string, algorithm: DigestAlgorithm = 'sha256'): SimpleManifest {
  const document = { schemaVersion: 2, mediaType: mediaTypes.imageIndex, manifests: [], annotations: { note } };
  const { bytes, descriptor } = content(JSON.stringify(document), mediaTypes.imageIndex);
  return { bytes, descriptor, digest: digestOf(bytes, algorithm) };
}

export async function pushEmptyIndex(
  suite: Suite,
  repository: string,
  tag: string,
  note = tag,
): Promise<SimpleManifest> {
  const manifest = emptyIndex(note);
  const answer = await putManifest(suite.wire, repository, tag, manifest.bytes, mediaTypes.imageIndex);
  expect(answer.status, 'status of the PUT').toBe(201);
  return manifest;
}
