// The spans that somebody wants and that are not here: how urgently, since when, and what went wrong so far.
import { Deferred } from '../util/deferred.ts';
import { urgency } from './fetch-class.ts';
import type { FetchClass } from './fetch-class.ts';

export class Want {
  readonly span: number;
  /** By whom first, and when. ms of the clock. */
  readonly askedFor: FetchClass;
  readonly askedAt: number;
  fetchClass: FetchClass;
  /** When its readers get EIO; Infinity while there are none. */
  deadline = Infinity;
  /** Nobody wants it: it lies between spans that somebody wants. */
  isExtra = false;
  /** Requests in vain, in all and since it became as urgent as it is. */
  retries = 0;
  attempts = 0;
  /** How often its bytes were damaged. */
  wrong = 0;
  /** How often the disk did not take it. */
  refused = 0;
  /** Its bytes came, and its window did not. */
  lacksWindow = false;
  /** What went wrong last, other than that time ran out. */
  why: string | undefined;
  /** Of who waits for it other than through the sink. */
  settled: Deferred<void> | undefined;
  /** What must hear of a deadline that is set while the span is on its way. */
  onDeadline: ((deadline: number) => void) | undefined;
  state: 'queued' | 'flying' | 'resting' = 'queued';

  constructor(span: number, fetchClass: FetchClass, askedAt: number) {
    this.span = span;
    this.askedFor = fetchClass;
    this.askedAt = askedAt;
    this.fetchClass = fetchClass;
  }

  /** Whether readers wait for it. */
  get isDemand(): boolean {
    return this.fetchClass === 'demand' && !this.isExtra;
  }

  /** Resolves when it is present. Errors: why it was given up. */
  present(): Promise<void> {
    return (this.settled ??= new Deferred()).promise;
  }
}

export class SpanWants {
  readonly #wants = new Map<number, Want>();
  readonly #readDeadlineMs: number;

  /** ms from the moment a reader asks until it gets EIO. */
  constructor(readDeadlineMs: number) {
    this.#readDeadlineMs = readDeadlineMs;
  }

  get(span: number): Want | undefined {
    return this.#wants.get(span);
  }

  has(span: number): boolean {
    return this.#wants.has(span);
  }

  all(): Want[] {
    return [...this.#wants.values()];
  }

  /** Undefined when it is wanted as urgently already; else the want, made or made more urgent. */
  ask(span: number, fetchClass: FetchClass, now: number): Want | undefined {
    let want = this.#wants.get(span);
    if (want === undefined) {
      want = new Want(span, fetchClass, now);
      this.#wants.set(span, want);
    } else if (!want.isExtra && urgency(fetchClass) >= urgency(want.fetchClass)) {
      return undefined;
    } else {
      want.fetchClass = fetchClass;
      want.isExtra = false;
      want.attempts = 0;
    }
    if (fetchClass === 'demand') {
      want.deadline = now + this.#readDeadlineMs;
      want.onDeadline?.(want.deadline);
    }
    return want;
  }

  /** A span that comes along in a request of that class. */
  addExtra(span: number, fetchClass: FetchClass, now: number): Want {
    const want = new Want(span, fetchClass, now);
    want.isExtra = true;
    this.#wants.set(span, want);
    return want;
  }

  /** Nobody wants it any more. Returns it, so that who waits for it can be told. */
  take(span: number): Want | undefined {
    const want = this.#wants.get(span);
    this.#wants.delete(span);
    return want;
  }
}
