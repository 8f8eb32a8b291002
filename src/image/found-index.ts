// A seekable index of an image that can be used: read, and for this image.
import type { PeelIndex } from '../index/peel-index.ts';
import { readPeelIndex } from '../index/peel-index-reader.ts';
import { peelIndexType } from '../index/peel-names.ts';
import type { SociIndex } from '../index/soci-index.ts';
import { readSociIndex } from '../index/soci-index.ts';
import type { Digest } from '../oci/digest.ts';
import { effectiveArtifactType, parseManifestOrIndex } from '../oci/manifest.ts';
import type { IndexKind } from '../state/indexes.ts';
import { ImageError } from './errors.ts';
import type { ResolvedImage } from './resolve.ts';

interface FoundIndexHead {
  readonly digest: Digest;
  /** Where it came from and why it was taken, for people. */
  readonly source: string;
}

export type FoundIndex = FoundIndexHead & IndexContent;

export type IndexContent =
  | { readonly format: 'peel'; readonly index: PeelIndex }
  | { readonly format: 'soci-v1' | 'soci-v2'; readonly index: SociIndex };

/**
 * `kind`: default what the manifest says it is. Errors: IndexError when it is malformed; ERR_IMAGE_INDEX when it is for another image.
 */
export function readIndexOf(image: ResolvedImage, bytes: Uint8Array, kind: IndexKind = kindOf(bytes)): IndexContent {
  const content = readIndex(bytes, kind);
  const { layers } = content.index;
  if (content.format === 'peel' && content.index.subject.digest !== image.descriptor.digest)
    throw new ImageError('ERR_IMAGE_INDEX', `it is for another image: its subject is ${content.index.subject.digest}`);
  const known = new Set<Digest>(image.manifest.layers.map(({ digest }) => digest));
  if ((layers.length > 0 || content.format === 'peel') && !layers.some(({ layer }) => known.has(layer)))
    throw new ImageError(
      'ERR_IMAGE_INDEX',
      `it is for another image: none of its ${layers.length} layers is in this one`,
    );
  return content;
}

export function indexKind(format: FoundIndex['format']): IndexKind {
  return format === 'peel' ? 'peel' : 'soci';
}

function readIndex(bytes: Uint8Array, kind: IndexKind): IndexContent {
  if (kind === 'peel') return { format: 'peel', index: readPeelIndex(bytes) };
  const index = readSociIndex(bytes);
  return { format: index.version === 'v1' ? 'soci-v1' : 'soci-v2', index };
}

/** What cannot be read is for the reader to refuse. */
function kindOf(bytes: Uint8Array): IndexKind {
  try {
    return effectiveArtifactType(parseManifestOrIndex(bytes)) === peelIndexType ? 'peel' : 'soci';
  } catch {
    return 'soci';
  }
}
