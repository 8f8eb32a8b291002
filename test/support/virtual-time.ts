// A clock that goes as fast as the work allows, and a line with a rate and a delay that runs on it.
import { Readable } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import type { BlobSource } from '../../src/layer/blob-source.ts';
import type { Clock } from '../../src/util/clock.ts';
import type { Content } from './registry-content.ts';

interface Due {
  readonly at: number;
  readonly order: number;
  readonly work: () => void;
}

export class VirtualClock implements Clock {
  #now = 0;
  #order = 0;
  #due: Due[] = [];
  #seed: number;

  constructor(seed = 1) {
    this.#seed = seed;
  }

  now(): number {
    return this.#now;
  }

  random(): number {
    this.#seed = (Math.imul(this.#seed, 1_664_525) + 1_013_904_223) >>> 0;
    return this.#seed / 2 ** 32;
  }

  after(ms: number, work: () => void): () => void {
    const due = { at: this.#now + ms, order: (this.#order += 1), work };
    this.#due.push(due);
    return () => void (this.#due = this.#due.filter((each) => each !== due));
  }

  soon(work: () => void): void {
    this.after(0, work);
  }

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => void this.after(ms, resolve));
  }

  /** Until `isOver`, or nothing is to be done any more, or `untilMs`. */
  async run({ isOver, untilMs }: { readonly isOver: () => boolean; readonly untilMs: number }): Promise<void> {
    for (;;) {
      // Promises and streams take a few turns to pass something on.
      for (let i = 0; i < 3; i += 1) await turn();
      if (isOver()) return;
      const next = this.#due.toSorted((a, b) => a.at - b.at || a.order - b.order)[0];
      if (next === undefined || next.at > untilMs) return;
      this.#due = this.#due.filter((each) => each !== next);
      this.#now = Math.max(this.#now, next.at);
      next.work();
    }
  }
}

export interface LineOptions {
  readonly clock: VirtualClock;
  readonly bytesPerMs: number;
  readonly delayMs: number;
  /** Called when a request arrives, `bytes` long. */
  readonly onRequest?: ((bytes: number) => void) | undefined;
  /** What a request is answered with instead of bytes, if with an error. */
  readonly fault?: ((request: number) => Error | undefined) | undefined;
}

export interface LineRequest {
  readonly start: number;
  readonly end: number;
  readonly at: number;
}

interface Flow {
  left: number;
  readonly deliver: (bytes: number) => void;
}

/** Requests share the rate, one piece of each in turn; each begins after the delay. */
export class VirtualLine {
  readonly requests: LineRequest[] = [];
  readonly #o: LineOptions;
  readonly #flows: Flow[] = [];
  #isBusy = false;
  busyMs = 0;

  constructor(options: LineOptions) {
    this.#o = options;
  }

  source(blob: Content, name: string): BlobSource {
    const { clock, delayMs, fault, onRequest } = this.#o;
    return {
      name,
      readAll: () => Promise.reject(new Error('not asked for')),
      readRange: async (start, end, { signal } = {}) => {
        onRequest?.(end - start);
        const number = this.requests.push({ start, end, at: clock.now() });
        await clock.sleep(delayMs);
        const error = fault?.(number);
        if (error !== undefined) throw error;
        const body = new Readable({ read: () => {}, highWaterMark: end - start + 1 });
        let at = start;
        const flow: Flow = {
          left: end - start,
          deliver: (bytes) => {
            if (body.destroyed) flow.left = 0;
            else body.push(blob.bytes.subarray(at, at + bytes));
            at += bytes;
            if (at === end && !body.destroyed) body.push(null);
          },
        };
        const close = () => {
          if (this.#flows.includes(flow)) this.#flows.splice(this.#flows.indexOf(flow), 1);
          body.on('error', () => {}).destroy();
        };
        signal?.addEventListener('abort', close, { once: true });
        this.#flows.push(flow);
        this.#next();
        return { descriptor: blob.descriptor, body, close };
      },
    };
  }

  #next(): void {
    const flow = this.#isBusy ? undefined : this.#flows.shift();
    if (flow === undefined) return;
    const { clock, bytesPerMs } = this.#o;
    const bytes = Math.min(flow.left, pieceBytes);
    this.#isBusy = true;
    clock.after(bytes / bytesPerMs, () => {
      this.#isBusy = false;
      this.busyMs += bytes / bytesPerMs;
      flow.left -= bytes;
      if (flow.left > 0) this.#flows.push(flow);
      flow.deliver(bytes);
      this.#next();
    });
  }
}

const pieceBytes = 128 << 10;
