// Which of an image's indexes is taken when there are several.
import { parseRfc3339 } from '../index/rfc3339.ts';
import type { Instant } from '../index/rfc3339.ts';
import type { Digest } from '../oci/digest.ts';

/** By the annotation `org.opencontainers.image.created`, or in the order in which the registry lists them. */
export type IndexChoice = 'newest' | 'oldest' | 'registry';

export interface IndexCandidate {
  readonly digest: Digest;
  /** RFC 3339, as the annotation says it; undefined or anything else when it does not. */
  readonly created: string | undefined;
}

/** In the order in which they are to be tried. Where the times say nothing, digests decide: every node chooses alike. */
export function orderCandidates<C extends IndexCandidate>(candidates: readonly C[], choice: IndexChoice): C[] {
  if (choice === 'registry') return [...candidates];
  return candidates
    .map((candidate) => ({ candidate, at: parseRfc3339(candidate.created ?? '') }))
    .toSorted((a, b) => {
      // One that does not say when it was made comes last either way.
      if ((a.at === undefined) !== (b.at === undefined)) return a.at === undefined ? 1 : -1;
      const age = a.at === undefined || b.at === undefined ? 0 : compare(a.at, b.at);
      if (age !== 0) return choice === 'newest' ? -age : age;
      return a.candidate.digest < b.candidate.digest ? -1 : 1;
    })
    .map(({ candidate }) => candidate);
}

/** Why one is tried, for people: its place, from 0, among `total` that were put in order. */
export function placeText(
  { created }: IndexCandidate,
  place: { readonly position: number; readonly total: number },
  choice: IndexChoice,
): string | undefined {
  const { position, total } = place;
  if (total < 2) return undefined;
  if (choice === 'registry') return `number ${position + 1} of ${total} in the registry's list`;
  if (parseRfc3339(created ?? '') === undefined) return `number ${position + 1} of ${total}, by digest`;
  return position === 0 ? `${choice} of ${total}` : `number ${position + 1} of ${total}, ${choice} first`;
}

function compare(a: Instant, b: Instant): number {
  return a.seconds - b.seconds || a.nanoseconds - b.nanoseconds;
}
