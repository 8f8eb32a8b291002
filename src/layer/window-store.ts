// The windows of a layer with a peel index: fetched from their blob by range when their spans are, and kept beside the block cache.
import { createHash } from 'node:crypto';
import { IndexError } from '../index/errors.ts';
import { decodeWindow } from '../index/peel-window.ts';
import type { RemoteWindows, WindowSource } from '../index/peel-windows.ts';
import type { Logger } from '../observe/log.ts';
import { Deferred } from '../util/deferred.ts';
import { systemClock } from '../util/clock.ts';
import { Semaphore } from '../util/semaphore.ts';
import type { Permit } from '../util/semaphore.ts';
import { untilAborted } from '../util/until-aborted.ts';
import type { BlobSource } from './blob-source.ts';
import { LayerError, errorMessage } from './errors.ts';
import type { Link } from './link.ts';
import { receiveRun } from './receive-run.ts';
import { SignsOfLife } from './signs-of-life.ts';
import { WindowFile } from './window-file.ts';
import { WindowFrames } from './window-frames.ts';
import { around, chooseWindowRuns, groupFrames, windowRunLimits } from './window-runs.ts';
import type { WindowRunLimits } from './window-runs.ts';

export interface WindowStoreOptions {
  /** Of the file that keeps them. */
  readonly path: string;
  readonly windows: RemoteWindows;
  /** The windows blob. */
  readonly source: BlobSource;
  /** That of the layer: what is asked for here is outstanding there. */
  readonly link?: Link | undefined;
  readonly log: Logger;
  /** ms without a byte after which a request is given up. */
  readonly stallMs: number;
  readonly limits?: WindowRunLimits | undefined;
}

/** One frame on its way. */
class Flight {
  readonly frame: number;
  readonly result = new Deferred<Uint8Array>();
  state: 'flying' | 'landed' | 'failed' = 'flying';
  /** Prepared, and nobody has asked for it yet: who does is told what went wrong. */
  isAwaited: boolean;

  constructor(frame: number, { isAwaited }: { readonly isAwaited: boolean }) {
    this.frame = frame;
    this.isAwaited = isAwaited;
    this.result.promise.catch(() => {});
  }
}

/** They accompany the requests for spans, which hold the permits. */
const maxRequests = 6;
/** Of a transfer: see `SignsOfLife`. Windows are small. */
const signOfLifeBytes = 1024;

export class WindowStore implements WindowSource {
  readonly #o: WindowStoreOptions;
  readonly #limits: WindowRunLimits;
  readonly #frames: WindowFrames;
  readonly #file: WindowFile;
  readonly #flights = new Map<number, Flight>();
  /** Of this turn. */
  readonly #starting: Flight[] = [];
  readonly #requests = new Semaphore(maxRequests);
  readonly #running = new Set<Promise<void>>();
  readonly #closing = new AbortController();
  #isDiskFailing = false;

  constructor(options: WindowStoreOptions) {
    this.#o = options;
    this.#limits = options.limits ?? windowRunLimits;
    this.#frames = new WindowFrames(options.windows);
    this.#file = new WindowFile(options.path);
  }

  prepare(spans: readonly number[]): void {
    if (this.#closing.signal.aborted) return;
    const frames = new Set<number>();
    for (const span of spans) {
      const frame = this.#frames.of(span);
      const flight = frame === undefined ? undefined : this.#flights.get(frame);
      if (frame !== undefined && (flight === undefined || flight.state === 'failed')) frames.add(frame);
    }
    this.#start([...frames].map((frame) => new Flight(frame, { isAwaited: true })));
  }

  /** Errors: as `WindowSource.window`; ERR_INDEX_FORMAT; ERR_LAYER_SHORT, ERR_LAYER_CLOSED; the signal's reason. */
  async window(span: number, options: { signal?: AbortSignal | undefined } = {}): Promise<Uint8Array> {
    options.signal?.throwIfAborted();
    if (this.#closing.signal.aborted) throw this.#closing.signal.reason;
    const frame = this.#frames.of(span);
    if (frame === undefined) throw new RangeError(`span ${span} of ${this.#o.source.name} has no window`);
    let flight = this.#flights.get(frame);
    if (flight === undefined) {
      flight = new Flight(frame, { isAwaited: false });
      this.#start([flight]);
    }
    flight.isAwaited = false;
    if (flight.state === 'failed') this.#flights.delete(frame);
    return decodeWindow(await untilAborted(flight.result.promise, options.signal));
  }

  /** Removes the file: the layer is here and needs no windows any more. Errors: errno codes. */
  drop(): Promise<void> {
    return this.#file.drop();
  }

  /** Ends what is under way; the file stays. */
  async close(): Promise<void> {
    this.#closing.abort(new LayerError('ERR_LAYER_CLOSED', `${this.#o.source.name} was closed`));
    await Promise.allSettled(this.#running);
    await this.#file.close();
  }

  #start(flights: readonly Flight[]): void {
    if (flights.length === 0) return;
    const isStarting = this.#starting.length > 0;
    for (const flight of flights) {
      this.#flights.set(flight.frame, flight);
      this.#starting.push(flight);
    }
    if (isStarting) return;
    const work = this.#bringStarting().finally(() => this.#running.delete(work));
    this.#running.add(work);
  }

  /** One turn later, so that what is asked for together is fetched together. Never rejects. */
  async #bringStarting(): Promise<void> {
    await Promise.resolve();
    const flights = this.#starting.splice(0);
    await this.#bring(flights.toSorted((a, b) => a.frame - b.frame));
  }

  /** `flights` ascending. Never rejects. */
  async #bring(flights: readonly Flight[]): Promise<void> {
    const wanted = new Map(flights.map((flight) => [flight.frame, flight]));
    const { here, missing } = await this.#lookUp([...wanted.keys()]);
    for (const [frame, bytes] of here) {
      const flight = wanted.get(frame);
      if (flight !== undefined) this.#land(flight, bytes);
      wanted.delete(frame);
    }
    const isFree = (frame: number): boolean => missing.has(frame) && !this.#flights.has(frame);
    const runs = chooseWindowRuns(this.#frames, [...wanted.keys()], isFree, this.#limits).map((run) =>
      run.map((frame) => {
        const flight = wanted.get(frame) ?? new Flight(frame, { isAwaited: false });
        this.#flights.set(frame, flight);
        return flight;
      }),
    );
    await Promise.all(runs.map((run) => this.#fetch(run, 1)));
  }

  /** Which of the wanted frames are in the file; and of those around them, which are not. */
  async #lookUp(
    wanted: readonly number[],
  ): Promise<{ readonly here: ReadonlyMap<number, Uint8Array>; readonly missing: ReadonlySet<number> }> {
    const here = new Map<number, Uint8Array>();
    const missing = new Set<number>();
    for (const group of groupFrames(this.#frames, wanted, this.#limits)) {
      const ends = { first: group[0] as number, last: group.at(-1) as number };
      const { first, last } = around(this.#frames, ends, this.#limits);
      const start = this.#frames.start(first);
      const bytes = await this.#read(start, this.#frames.end(last));
      for (let frame = first; frame <= last; frame += 1) {
        const kept = bytes.subarray(this.#frames.start(frame) - start, this.#frames.end(frame) - start);
        if (this.#isRight(frame, kept)) here.set(frame, kept);
        else missing.add(frame);
      }
    }
    return { here, missing };
  }

  /** Never rejects. What comes wrong is asked for once more, in case it was damaged on the way. */
  async #fetch(run: readonly Flight[], attempt: 1 | 2): Promise<void> {
    const { source, log } = this.#o;
    const wrong = new Set<Flight>();
    try {
      using permit = await this.#requests.acquire(1, { signal: this.#closing.signal });
      await this.#receive(run, permit, async (group, bytes) => {
        const start = this.#frames.start(group[0]?.frame ?? 0);
        const parts = group.map((flight) => {
          const [from, to] = [this.#frames.start(flight.frame), this.#frames.end(flight.frame)];
          return { flight, from, frame: bytes.subarray(from - start, to - start) };
        });
        const right = parts.filter(({ flight, frame }) => this.#isRight(flight.frame, frame));
        if (right.length === group.length) await this.#write(start, bytes);
        else for (const { from, frame } of right) await this.#write(from, frame);
        for (const { flight, frame } of right) this.#land(flight, Uint8Array.from(frame));
        for (const flight of group) if (flight.state === 'flying') wrong.add(flight);
      });
    } catch (error) {
      for (const flight of run) if (!wrong.has(flight)) this.#fail(flight, error);
    }
    const [first] = wrong;
    if (first === undefined) return;
    const spans = [...wrong].map(({ frame }) => this.#frames.span(frame));
    if (attempt === 1) {
      log.warn({ blob: source.name, spans: spans.slice(0, 16) }, 'windows are damaged, fetching them again');
      await this.#fetch([...wrong], 2);
      return;
    }
    for (const flight of wrong) {
      const span = this.#frames.span(flight.frame);
      const message = `the window of span ${span} in ${source.name} has not the digest that its index states`;
      this.#fail(flight, new IndexError('ERR_INDEX_CHECKSUM', message));
    }
  }

  /** One that brings nothing gives its permit back. Errors: those of the source; ERR_LAYER_SHORT; that next to no bytes came for too long; ERR_LAYER_CLOSED. */
  async #receive(
    run: readonly Flight[],
    permit: Permit,
    take: (group: readonly Flight[], bytes: Uint8Array) => Promise<void>,
  ): Promise<void> {
    // It may have been closed between the permit and this.
    this.#closing.signal.throwIfAborted();
    const { source, stallMs, windows, link } = this.#o;
    const ending = new AbortController();
    const { signal } = ending;
    const stalled = () => new Error(`next to no bytes of ${source.name} for ${Math.round(stallMs / 1000)} s`);
    // A signal made of both would be remembered by the one that lives as long as the layer.
    const onClosing = () => ending.abort(this.#closing.signal.reason);
    this.#closing.signal.addEventListener('abort', onClosing, { once: true });
    const ranges = run.map((flight) => ({
      flight,
      blobStart: this.#frames.start(flight.frame),
      blobEnd: this.#frames.end(flight.frame),
    }));
    const transfer = link?.accompany((ranges.at(-1)?.blobEnd ?? 0) - (ranges[0]?.blobStart ?? 0));
    const signs = new SignsOfLife({
      clock: systemClock,
      leastBytes: signOfLifeBytes,
      stallMs,
      onStall: () => ending.abort(stalled()),
      onIdle: () => {
        permit();
        transfer?.idle();
      },
    });
    try {
      await receiveRun({ source, blobSize: windows.size }, ranges, {
        signal,
        arrived: (bytes) => {
          signs.arrived(bytes);
          transfer?.received(bytes);
        },
        take: (group, bytes) =>
          take(
            group.map(({ flight }) => flight),
            bytes,
          ),
      });
    } catch (error) {
      throw signal.aborted ? signal.reason : error;
    } finally {
      transfer?.end();
      this.#closing.signal.removeEventListener('abort', onClosing);
      signs.stop();
    }
  }

  #isRight(frame: number, bytes: Uint8Array): boolean {
    const length = this.#frames.end(frame) - this.#frames.start(frame);
    return bytes.length === length && createHash('sha256').update(bytes).digest().equals(this.#frames.sha256(frame));
  }

  async #read(start: number, end: number): Promise<Buffer> {
    try {
      return await this.#file.read(start, end);
    } catch (error) {
      this.#diskFailed(error);
      return Buffer.alloc(0);
    }
  }

  async #write(start: number, bytes: Uint8Array): Promise<void> {
    try {
      await this.#file.write(start, bytes);
    } catch (error) {
      this.#diskFailed(error);
    }
  }

  /** Windows can be had without a disk, for as long as spans can. */
  #diskFailed(error: unknown): void {
    const { log, path } = this.#o;
    if (!this.#isDiskFailing) log.warn({ path, error: errorMessage(error) }, 'windows cannot be kept');
    this.#isDiskFailing = true;
  }

  #land(flight: Flight, bytes: Uint8Array): void {
    flight.state = 'landed';
    this.#forget(flight);
    flight.result.resolve(bytes);
  }

  #fail(flight: Flight, error: unknown): void {
    if (flight.state !== 'flying') return;
    flight.state = 'failed';
    if (!flight.isAwaited) this.#forget(flight);
    flight.result.reject(error);
  }

  #forget(flight: Flight): void {
    if (this.#flights.get(flight.frame) === flight) this.#flights.delete(flight.frame);
  }
}
