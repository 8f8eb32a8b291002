import { editDistance } from '../util/edit-distance.ts';
import type { KeyPath } from './key-path.ts';

/** The key that was probably meant: nearly the same path, or nearly the same name in another table. */
export function nearestKey(wrong: KeyPath, known: readonly KeyPath[]): KeyPath | undefined {
  const name = wrong.at(-1) ?? '';
  const limit = Math.ceil(name.length / 3);
  let nearest: KeyPath | undefined;
  let least = limit + 1;
  for (const candidate of known) {
    const asPath = editDistance(wrong.join('.'), candidate.join('.'), limit);
    // A step further away than a sibling of the same likeness.
    const asName = editDistance(name, candidate.at(-1) ?? '', limit) + 1;
    const distance = Math.min(asPath, asName);
    if (distance < least) [nearest, least] = [candidate, distance];
  }
  return nearest;
}
