import { createHash } from 'node:crypto';
import type { Descriptor } from '../oci/descriptor.ts';
import { digestFromSha256 } from '../oci/digest.ts';

/** What is to be pushed under its digest. */
export interface Blob {
  readonly descriptor: Descriptor;
  readonly bytes: Uint8Array;
}

export function blobOf(mediaType: string, bytes: Uint8Array): Blob {
  const digest = digestFromSha256(createHash('sha256').update(bytes).digest());
  return { descriptor: { mediaType, digest, size: bytes.length }, bytes };
}
