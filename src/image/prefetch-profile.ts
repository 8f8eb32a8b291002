// Profiles in SOCI's form: beside the zTOCs of the index that layers are read by.
import type { ProfileLayer } from '../index/peel-profile.ts';
import { maxProfileBytes } from '../index/profile-names.ts';
import { readSociIndex } from '../index/soci-index.ts';
import { sociAnnotations } from '../index/soci-names.ts';
import { readPrefetch } from '../index/soci-prefetch.ts';
import { errorMessage } from '../layer/errors.ts';
import type { Digest } from '../oci/digest.ts';
import type { CountedLayer } from '../state/profiles.ts';
import type { ContentFetcher } from './content.ts';
import { readSmallBlob } from './content.ts';
import type { Origin } from './origin.ts';

export interface PrefetchSearch {
  readonly origin: Origin;
  readonly layers: readonly CountedLayer[];
  /** Told once of each index whose lists cannot be used. */
  readonly onWarning: (warning: string) => void;
  readonly signal?: AbortSignal | undefined;
}

/** What the layers' own SOCI indexes say is to be fetched first; undefined when they say nothing. Errors: the signal's reason. */
export async function prefetchProfile(
  content: ContentFetcher,
  search: PrefetchSearch,
): Promise<{ readonly source: string; readonly layers: readonly ProfileLayer[] } | undefined> {
  const soci = search.layers.filter(({ format }) => format !== 'peel');
  const indexes = [...new Set(soci.map(({ index }) => index))];
  const layers: ProfileLayer[] = [];
  for (const index of indexes) {
    try {
      const own = soci.filter((layer) => layer.index === index);
      layers.push(...(await readLists(content, search, index, own)));
    } catch (error) {
      search.signal?.throwIfAborted();
      search.onWarning(`what SOCI index ${index} says is to be fetched first is ignored: ${errorMessage(error)}`);
    }
  }
  return layers.length === 0 ? undefined : { source: `SOCI index ${layers[0]?.index ?? ''}`, layers };
}

async function readLists(
  content: ContentFetcher,
  { origin, signal }: PrefetchSearch,
  index: Digest,
  layers: readonly CountedLayer[],
): Promise<ProfileLayer[]> {
  const manifest = await content.local(index);
  if (manifest === undefined) return [];
  const read: ProfileLayer[] = [];
  for (const descriptor of readSociIndex(manifest.bytes).prefetch) {
    const layer = layers.find((each) => each.layer === descriptor.annotations?.[sociAnnotations.layerDigest]);
    if (layer === undefined || read.some((each) => each.layer === layer.layer)) continue;
    const bytes = await readSmallBlob(origin, descriptor, maxProfileBytes, { signal });
    read.push({ ...layer, runs: 1, spans: readPrefetch(bytes, layer.spanCount) });
  }
  return read;
}
