/** The names of a sorted list that come after `startAfter`, as a page of a list continues. */
export function namesAfter(sorted: readonly string[], startAfter: string | undefined): readonly string[] {
  return startAfter === undefined ? sorted : sorted.filter((name) => name > startAfter);
}
