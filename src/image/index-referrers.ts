// The seekable indexes and the profiles among the referrers of an image.
import { createdAnnotation } from '../index/created-annotation.ts';
import { peelIndexType } from '../index/peel-names.ts';
import { peelProfileType } from '../index/profile-names.ts';
import { sociIndexTypes } from '../index/soci-names.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import type { IndexKind } from '../state/indexes.ts';
import type { IndexCandidate } from './index-choice.ts';
import type { Origin } from './origin.ts';

export interface ListedReferrers extends Readonly<Record<IndexKind, readonly IndexCandidate[]>> {
  /** Undefined: there are so many referrers that profiles have to be asked for by themselves. */
  readonly profile: readonly IndexCandidate[] | undefined;
}

type ReferrerKind = IndexKind | 'profile';

/** How many of a kind are kept, and how many referrers of any type are looked at for that. */
const maxListed = 64;
const maxLooked = 512;

const artifactTypes: Readonly<Record<ReferrerKind, string>> = {
  peel: peelIndexType,
  soci: sociIndexTypes.v1,
  profile: peelProfileType,
};

const allKinds: readonly ReferrerKind[] = ['peel', 'soci', 'profile'];

interface ListOptions {
  readonly signal: AbortSignal | undefined;
}

/** The indexes of these kinds and the profiles, in the order of the registry: with one question as a rule. Errors: as `Lister.referrers`. */
export async function listIndexes(
  origin: Origin,
  image: Digest,
  kinds: readonly IndexKind[],
  options: ListOptions,
): Promise<ListedReferrers> {
  const all = await listAll(origin, image, options);
  if (all !== undefined) return all;
  const listed: Record<IndexKind, readonly IndexCandidate[]> = { peel: [], soci: [] };
  for (const kind of kinds) listed[kind] = await listKind(origin, image, kind, options);
  return { ...listed, profile: undefined };
}

/** Undefined when there are too many referrers: the registry is to pick them itself. */
async function listAll(origin: Origin, image: Digest, { signal }: ListOptions): Promise<ListedReferrers | undefined> {
  const none = () => new Map<Digest, IndexCandidate>();
  const listed: Readonly<Record<ReferrerKind, Map<Digest, IndexCandidate>>> = {
    peel: none(),
    soci: none(),
    profile: none(),
  };
  let looked = 0;
  for await (const referrer of origin.registry.referrers(origin.repository, image, { signal })) {
    looked += 1;
    if (looked > maxLooked) return undefined;
    const kind = allKinds.find((each) => artifactTypes[each] === referrer.artifactType);
    if (kind !== undefined && listed[kind].size < maxListed) listed[kind].set(referrer.digest, candidateOf(referrer));
    if (allKinds.every((each) => listed[each].size === maxListed)) break;
  }
  return {
    peel: [...listed.peel.values()],
    soci: [...listed.soci.values()],
    profile: [...listed.profile.values()],
  };
}

/** Errors: as `Lister.referrers`. */
export async function listKind(
  origin: Origin,
  image: Digest,
  kind: ReferrerKind,
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
