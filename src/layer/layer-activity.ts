// What happens to a layer while it is served, for those who learn from it. All times are ms of `performance.now()`.
import type { FetchClass } from './fetch-class.ts';

/** One span that landed. */
export interface SpanFetch {
  readonly span: number;
  /** Why it was asked for first. */
  readonly fetchClass: FetchClass;
  /** Bytes of blob. */
  readonly bytes: number;
  /** When it was asked for first, when the request that brought it was sent, and when it could be read. */
  readonly askedAt: number;
  readonly sentAt: number;
  readonly landedAt: number;
  /** Requests that failed before. */
  readonly retries: number;
  /** Name of the blob source, without secrets. */
  readonly source: string;
}

/** One read that had to wait. */
export interface Stall {
  /** Stream bytes that were read. */
  readonly offset: number;
  readonly length: number;
  readonly startedAt: number;
  readonly endedAt: number;
  /** Name of the errno that the read got; undefined when it got its bytes. */
  readonly error: string | undefined;
}

export interface LayerListener {
  /** Spans that were read for the first time since the layer was opened here, in that order, present or not. */
  readonly touched?: ((spans: Uint32Array, at: Float64Array) => void) | undefined;
  readonly fetched?: ((fetch: SpanFetch) => void) | undefined;
  readonly stalled?: ((stalls: readonly Stall[]) => void) | undefined;
  /** The disk does not take spans: those that are waited for are served without it. */
  readonly refused?: ((error: unknown) => void) | undefined;
}

/** Passes on to any number of listeners; one that throws is the caller's bug and is not caught. */
export class LayerActivity {
  readonly #listeners = new Set<LayerListener>();

  /** Returns what ends it. */
  observe(listener: LayerListener): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  touched(spans: Uint32Array, at: Float64Array): void {
    for (const listener of this.#listeners) listener.touched?.(spans, at);
  }

  fetched(fetch: SpanFetch): void {
    for (const listener of this.#listeners) listener.fetched?.(fetch);
  }

  stalled(stalls: readonly Stall[]): void {
    for (const listener of this.#listeners) listener.stalled?.(stalls);
  }

  refused(error: unknown): void {
    for (const listener of this.#listeners) listener.refused?.(error);
  }
}
