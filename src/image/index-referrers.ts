// The seekable indexes among the referrers of an image.
import { peelIndexType } from '../index/peel-names.ts';
import { sociIndexTypes } from '../index/soci-names.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import type { IndexKind } from '../state/indexes.ts';
import { createdAnnotation } from './index-choice.ts';
import type { IndexCandidate } from './index-choice.ts';
import type { Origin } from './origin.ts';

export type ListedIndexes = Readonly<Record<IndexKind, readonly IndexCandidate[]>>;

/** How many of a kind are kept, and how many referrers of any type are looked at for that. */
const maxListed = 64;
const maxLooked = 512;

const artifactTypes: Readonly<Record<IndexKind, string>> = { peel: peelIndexType, soci: sociIndexTypes.v1 };

const allKinds: readonly IndexKind[] = ['peel', 'soci'];

interface ListOptions {
  readonly signal: AbortSignal | undefined;
}

/** Those of these kinds, in the order of the registry: with one question as a rule. Errors: as `Lister.referrers`. */
export async function listIndexes(
  origin: Origin,
  image: Digest,
  kinds: readonly IndexKind[],
  options: ListOptions,
): Promise<ListedIndexes> {
  const all = kinds.length > 1 ? await listAll(origin, image, options) : undefined;
  if (all !== undefined) return all;
  const listed: Record<IndexKind, readonly IndexCandidate[]> = { peel: [], soci: [] };
  for (const kind of kinds) listed[kind] = await listKind(origin, image, kind, options);
  return listed;
}

/** Undefined when there are too many referrers: the registry is to pick them itself. */
async function listAll(origin: Origin, image: Digest, { signal }: ListOptions): Promise<ListedIndexes | undefined> {
  const listed = { peel: new Map<Digest, IndexCandidate>(), soci: new Map<Digest, IndexCandidate>() };
  let looked = 0;
  for await (const referrer of origin.registry.referrers(origin.repository, image, { signal })) {
    looked += 1;
    if (looked > maxLooked) return undefined;
    const kind = allKinds.find((each) => artifactTypes[each] === referrer.artifactType);
    if (kind !== undefined && listed[kind].size < maxListed) listed[kind].set(referrer.digest, candidateOf(referrer));
    if (allKinds.every((each) => listed[each].size === maxListed)) break;
  }
  return { peel: [...listed.peel.values()], soci: [...listed.soci.values()] };
}

async function listKind(
  origin: Origin,
  image: Digest,
  kind: IndexKind,
  { signal }: ListOptions,
): Promise<IndexCandidate[]> {
  const artifactType = artifactTypes[kind];
  const listed = new Map<Digest, IndexCandidate>();
  for await (const referrer of origin.registry.referrers(origin.repository, image, { artifactType, signal })) {
    if (referrer.artifactType !== undefined && referrer.artifactType !== artifactType) continue;
    listed.set(referrer.digest, candidateOf(referrer));
    if (listed.size === maxListed) break;
  }
  return [...listed.values()];
}

function candidateOf({ digest, annotations }: Descriptor): IndexCandidate {
  return { digest, created: annotations?.[createdAnnotation] };
}
