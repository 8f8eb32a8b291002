/**
 * Why a span is fetched, most urgent first: somebody waits for it; the access pattern suggests it; an earlier start touched it; the layer is being
 * made complete.
 */
export const fetchClasses = ['demand', 'read-ahead', 'profile', 'background'] as const;
export type FetchClass = (typeof fetchClasses)[number];

/** How urgent: 0 is the most. */
export function urgency(fetchClass: FetchClass): number {
  return fetchClasses.indexOf(fetchClass);
}
