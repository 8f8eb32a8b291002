/**
 * Why something is likely to be read: a file is read in order; part of a file that programs read whole was touched; files near each other were
 * touched; most of what lies around was touched.
 */
export const guessKinds = ['sequence', 'file', 'neighbours', 'region'] as const;
export type GuessKind = (typeof guessKinds)[number];

/** Stream bytes [from, to) that are likely to be read; nothing where `to` is not above `from`. */
export interface Guess {
  readonly kind: GuessKind;
  readonly from: number;
  readonly to: number;
}
