import type { SpanTable } from '../index/layer-index.ts';

/** What belongs to a touched span, in stream bytes. */
const regionSize = 8 * 1024 * 1024;

/** Spans around a touched one, nearest first. */
interface Around {
  below: number;
  above: number;
  readonly first: number;
  readonly last: number;
  upwards: boolean;
}

/**
 * In which order the rest of a layer is fetched: what is likely to be needed in its own order, then what lies around what was touched (the
 * latest first), then from the start. Each span is given once.
 */
export class FillOrder {
  readonly #spans: SpanTable;
  readonly #given: Uint8Array;
  /** What was given back, the next one last. */
  readonly #returned: number[] = [];
  #preferred: readonly number[] = [];
  #nextPreferred = 0;
  /** The latest touched last; one region may be there several times. */
  readonly #around: Around[] = [];
  #next = 0;

  constructor(spans: SpanTable) {
    this.#spans = spans;
    this.#given = new Uint8Array(spans.count);
  }

  /** Comes before all else, behind what was preferred before. */
  prefer(spans: Iterable<number>): void {
    this.#preferred = [...this.#preferred.slice(this.#nextPreferred), ...spans];
    this.#nextPreferred = 0;
  }

  touched(span: number): void {
    if (span >= this.#spans.count) return;
    const { streamStart } = this.#spans.span(span);
    const region = Math.floor(streamStart / regionSize);
    const start = region * regionSize;
    const end = Math.min(start + regionSize, this.#spans.streamSize) - 1;
    const first = start < this.#spans.streamSize ? this.#spans.spanAt(start) : span;
    const last = end >= start ? this.#spans.spanAt(end) : span;
    this.#around.push({ below: span - 1, above: span, first, last, upwards: true });
  }

  /** Undefined when all were given. */
  next(): number | undefined {
    const span = this.#nextReturned() ?? this.#nextOfPreferred() ?? this.#nextAround() ?? this.#nextInOrder();
    if (span !== undefined) this.#given[span] = 1;
    return span;
  }

  /** These are given once more, in order. */
  again(spans: Iterable<number>): void {
    for (const span of spans) {
      this.#given[span] = 0;
      this.#next = Math.min(this.#next, span);
    }
  }

  /** As if these had not been given, the last ones: they are the next. */
  giveBack(spans: readonly number[]): void {
    this.again(spans);
    for (const span of spans.toReversed()) this.#returned.push(span);
  }

  #isNew(span: number | undefined): span is number {
    return span !== undefined && this.#given[span] === 0;
  }

  #nextReturned(): number | undefined {
    let span = this.#returned.pop();
    while (span !== undefined && !this.#isNew(span)) span = this.#returned.pop();
    return span;
  }

  #nextOfPreferred(): number | undefined {
    while (this.#nextPreferred < this.#preferred.length) {
      const span = this.#preferred[this.#nextPreferred++];
      if (this.#isNew(span)) return span;
    }
    this.#preferred = [];
    this.#nextPreferred = 0;
    return undefined;
  }

  #nextAround(): number | undefined {
    for (let around = this.#around.at(-1); around !== undefined; around = this.#around.at(-1)) {
      while (around.above <= around.last || around.below >= around.first) {
        const up = around.below < around.first || (around.upwards && around.above <= around.last);
        around.upwards = !up;
        const span = up ? around.above++ : around.below--;
        if (this.#isNew(span)) return span;
      }
      this.#around.pop();
    }
    return undefined;
  }

  #nextInOrder(): number | undefined {
    while (this.#next < this.#given.length && this.#given[this.#next] !== 0) this.#next += 1;
    return this.#next < this.#given.length ? this.#next : undefined;
  }
}
