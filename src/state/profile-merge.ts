// How the starts of an image become one order of spans: what a third of them touched, by the mean of its places in their orders.

/** A span that starts touched. */
export interface ProfileSpan {
  readonly span: number;
  /** How many of the starts. */
  readonly runs: number;
  /** Mean of its places in their orders, from 0. */
  readonly place: number;
}

export interface MergedRuns {
  /** Starts that were merged. */
  readonly runs: number;
  readonly spans: readonly ProfileSpan[];
}

/** Of a layer: more than any start-up touches, and 16 GiB of stream at the spans of a peel index. */
export const maxProfileSpans = 65_536;

/** From so many starts on, older ones count half: a program whose arguments changed is known again after some starts. */
const maxRuns = 64;

/** Of a span, the share of the starts that has to have touched it: one in so many. */
const shareOfRuns = 3;

export const noRuns: MergedRuns = { runs: 0, spans: [] };

/** With one more start, which touched `order`, each span once, in that order. */
export function mergeRun(known: MergedRuns, order: readonly number[]): MergedRuns {
  const { runs, spans } = known.runs < maxRuns ? known : halved(known);
  const merged = new Map(spans.map((each) => [each.span, each]));
  for (const [place, span] of order.slice(0, maxProfileSpans).entries()) {
    const before = merged.get(span);
    const seen = before?.runs ?? 0;
    merged.set(span, { span, runs: seen + 1, place: ((before?.place ?? 0) * seen + place) / (seen + 1) });
  }
  return { runs: runs + 1, spans: bounded([...merged.values()]) };
}

/** The spans to fetch, in that order. */
export function profileOrder({ runs, spans }: MergedRuns): number[] {
  return spans
    .filter((each) => each.runs * shareOfRuns >= runs)
    .toSorted(byPlace)
    .map(({ span }) => span);
}

/** Somebody else's order of so many starts, of which no more is known. */
export function runsOfOrder(runs: number, order: readonly number[]): MergedRuns {
  return { runs, spans: order.slice(0, maxProfileSpans).map((span, place) => ({ span, runs, place })) };
}

function halved({ runs, spans }: MergedRuns): MergedRuns {
  const kept = spans.map((each) => ({ ...each, runs: Math.floor(each.runs / 2) }));
  return { runs: Math.floor(runs / 2), spans: kept.filter((each) => each.runs > 0) };
}

/** Those that most starts touch stay. */
function bounded(spans: ProfileSpan[]): ProfileSpan[] {
  const kept = spans.length <= maxProfileSpans ? spans : spans.toSorted((a, b) => b.runs - a.runs || byPlace(a, b));
  return kept.slice(0, maxProfileSpans).toSorted(byPlace);
}

function byPlace(a: ProfileSpan, b: ProfileSpan): number {
  return a.place - b.place || a.span - b.span;
}
