import { createdAnnotation } from '../index/created-annotation.ts';
import { parseManifestOrIndex } from '../oci/manifest.ts';
import type { ContentFetcher } from './content.ts';
import type { IndexCandidate } from './index-choice.ts';
import type { Origin } from './origin.ts';

/** Of those that their registry's list gives no time, how many are asked for one. */
const maxAsked = 8;

/**
 * With the times that their manifests have where some registries list no annotations. One that cannot be had is found out about when it is
 * tried. Errors: the signal's reason.
 */
export async function datedCandidates(
  content: ContentFetcher,
  origin: Origin,
  listed: readonly IndexCandidate[],
  { signal }: { readonly signal: AbortSignal | undefined },
): Promise<IndexCandidate[]> {
  const silent = listed.filter(({ created }) => created === undefined).slice(0, maxAsked);
  const times = new Map(
    await Promise.all(
      silent.map(async ({ digest }) => {
        const manifest = await content.manifest(origin, digest, { signal }).catch(() => undefined);
        return [digest, manifest && createdOf(manifest.bytes)] as const;
      }),
    ),
  );
  signal?.throwIfAborted();
  return listed.map(({ digest, created }) => ({ digest, created: created ?? times.get(digest) }));
}

function createdOf(bytes: Uint8Array): string | undefined {
  try {
    return parseManifestOrIndex(bytes).annotations[createdAnnotation];
  } catch {
    return undefined;
  }
}
