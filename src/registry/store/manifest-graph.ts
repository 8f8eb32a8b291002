// What manifests need, and which of them are reached: the part of garbage collection that only looks at documents.
import type { Digest } from '../../oci/digest.ts';
import { parseManifestOrIndex } from '../../oci/manifest.ts';
import { OciError } from '../../oci/errors.ts';
import { isIndexType, isManifestType } from '../../oci/media-type.ts';

export interface ManifestNode {
  /** Blobs and manifests; the media type is empty where it is not known. */
  readonly needs: readonly { readonly digest: Digest; readonly mediaType: string }[];
  readonly subject: Digest | undefined;
}

const digestPattern = /\bsha256:[0-9a-f]{64}\b|\bsha512:[0-9a-f]{128}\b/g;

/** A document that cannot be read, or whose type is not known, needs everything that it names: nothing is removed for want of understanding. */
export function manifestNode(bytes: Uint8Array, mediaType: string): ManifestNode {
  try {
    if (isManifestType(mediaType) || isIndexType(mediaType)) {
      const document = parseManifestOrIndex(bytes, mediaType);
      // Some indexes (of build caches) list blobs, not manifests.
      const needs = document.kind === 'index' ? document.manifests : [document.config, ...document.layers];
      return {
        needs: needs.map(({ digest, mediaType: type }) => ({ digest, mediaType: type })),
        subject: document.subject?.digest,
      };
    }
  } catch (error) {
    if (!(error instanceof OciError)) throw error;
  }
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
  const named = [...new Set(text.match(digestPattern) ?? [])] as Digest[];
  return { needs: named.map((digest) => ({ digest, mediaType: '' })), subject: undefined };
}

/** The manifests that `roots` lead to: down through indexes, and from a manifest to its referrers. */
export function reachedFrom(roots: Iterable<Digest>, nodes: ReadonlyMap<Digest, ManifestNode>): Set<Digest> {
  const referrers = new Map<Digest, Digest[]>();
  for (const [digest, { subject }] of nodes) {
    if (subject === undefined) continue;
    const list = referrers.get(subject);
    if (list === undefined) referrers.set(subject, [digest]);
    else list.push(digest);
  }
  const reached = new Set<Digest>();
  const waiting = [...roots];
  for (let digest = waiting.pop(); digest !== undefined; digest = waiting.pop()) {
    const node = nodes.get(digest);
    if (node === undefined || reached.has(digest)) continue;
    reached.add(digest);
    waiting.push(...node.needs.map((need) => need.digest), ...(referrers.get(digest) ?? []));
  }
  return reached;
}
