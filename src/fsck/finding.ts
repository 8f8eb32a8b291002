export type FindingPlace = 'database' | 'layer' | 'tree' | 'content' | 'compressed' | 'job' | 'snapshot';

/** One thing that is not as it should be. */
export interface Finding {
  readonly place: FindingPlace;
  /** What it is wrong with: a digest, a table and key, a path. */
  readonly subject: string;
  /** Half a sentence. */
  readonly what: string;
  readonly repaired: boolean;
  /** What was done, or why it could not be; undefined where nobody asked for a repair. */
  readonly how: string | undefined;
}

export function findingText({ place, subject, what, how }: Finding): string {
  return `${place} ${subject}: ${what}${how === undefined ? '' : `: ${how}`}`;
}
