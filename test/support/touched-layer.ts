// What read-ahead and filling see of a layer, with transfers that land when the test says so.
import { SpanColumns } from '../../src/index/span-columns.ts';
import type { FetchClass } from '../../src/layer/fetch-class.ts';
import { LayerActivity } from '../../src/layer/layer-activity.ts';

/** Spans of `spanSize` bytes of stream and half as many of blob. */
export function evenSpans(count: number, spanSize: number): SpanColumns {
  const streamStarts = Float64Array.from({ length: count }, (_, i) => i * spanSize);
  const blobStarts = streamStarts.map((start) => start / 2);
  const sizes = { blobSize: (count * spanSize) / 2, streamSize: count * spanSize, spanSize, streamStarts, blobStarts };
  return new SpanColumns({ decoder: 'gzip-member', openEnded: false, ...sizes }, 'test');
}

export class TouchedLayer {
  readonly spans: SpanColumns;
  readonly activity = new LayerActivity();
  readonly present = new Set<number>();
  readonly cache = { isPresent: (span: number) => this.present.has(span) };
  /** In the order in which they were asked for. */
  readonly wanted: { readonly span: number; readonly fetchClass: FetchClass }[] = [];
  readonly forgotten: FetchClass[] = [];
  readonly coming = new Map<number, FetchClass>();
  isComplete = false;
  /** ms. */
  now = 0;

  constructor(spans: SpanColumns) {
    this.spans = spans;
  }

  get complete(): boolean {
    return this.isComplete;
  }

  want(spans: Iterable<number>, fetchClass: FetchClass): void {
    for (const span of spans) {
      this.wanted.push({ span, fetchClass });
      if (!this.present.has(span) && !this.coming.has(span)) this.coming.set(span, fetchClass);
    }
  }

  forget(fetchClass: FetchClass): void {
    this.forgotten.push(fetchClass);
    for (const [span, of] of this.coming) if (of === fetchClass) this.coming.delete(span);
  }

  /** A read of the span, which waits for it when it is not here. Returns whether it was here. */
  touch(span: number): boolean {
    const here = this.present.has(span);
    this.now += 1;
    this.activity.touched(Uint32Array.of(span), Float64Array.of(this.now));
    if (!here) this.land(span, this.coming.get(span) ?? 'demand');
    return here;
  }

  land(span: number, fetchClass: FetchClass): void {
    this.coming.delete(span);
    this.present.add(span);
    const { blobStart, blobEnd } = this.spans.span(span);
    const times = { askedAt: this.now, sentAt: this.now, landedAt: this.now };
    this.activity.fetched({ span, fetchClass, bytes: blobEnd - blobStart, ...times, retries: 0, source: 'test' });
  }

  /** All that is on its way, in the order in which it was asked for. */
  landAll(): void {
    for (const [span, fetchClass] of this.coming) this.land(span, fetchClass);
  }
}
