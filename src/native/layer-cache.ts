import { constants } from 'node:os';
import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { getSystemErrorName } from 'node:util';
import { addon } from './addon.ts';

export interface LayerCacheOptions {
  /** The layer's directory; made when missing. */
  readonly dir: string;
  /** File of the live bits, in the run directory; made when missing. */
  readonly livePath: string;
  /** Bytes of the layer stream as the index states them. */
  readonly streamSize: number;
  /** Stream offset of every span and, last, `streamSize`: ascending, only the last span may be empty. */
  readonly spanStarts: Float64Array;
  /** sha256 of the index file; bits of another index are discarded. */
  readonly fingerprint: Uint8Array;
  /** Open what is there and change nothing. */
  readonly readOnly?: boolean;
}

export interface DecodeRequest {
  readonly span: number;
  readonly decoder: 'gzip-checkpoint' | 'gzip-member' | 'zstd-frame' | 'stored';
  /** gzip-checkpoint: high bits of the first byte that belong to the first block, 0..7. */
  readonly bits: number;
  /** Blob bytes [blobStart, blobEnd). Must not change until the promise settles. */
  readonly data: Uint8Array;
  /** The stream before the span, oldest byte first, at most 32 768 bytes. */
  readonly window: Uint8Array | undefined;
  readonly sha256: Uint8Array | undefined;
  /** Last span: decode to the end of the blob; bytes beyond `streamSize` must be zeros and are only counted. */
  readonly openEnded: boolean;
}

/** Spans that follow one another, and came in one piece. */
export interface DecodeRun extends Pick<DecodeRequest, 'decoder' | 'openEnded'> {
  readonly first: number;
  /** Of the first one. `cached`: the spans before it are here; the error is ENODATA when they are not, or not right. */
  readonly window: Uint8Array | 'cached' | undefined;
  /** Of each, as of a `DecodeRequest`. */
  readonly bits: Uint8Array;
  /** Where each begins and ends in `data`: two numbers for each. Neighbours may share a byte. */
  readonly bounds: Uint32Array;
  /** Blob bytes. Must not change until the promise settles. */
  readonly data: Uint8Array;
  /** 32 bytes for each, one after the other. */
  readonly sha256: Uint8Array | undefined;
  /** Nobody waits for it: the processors are left to others. Default false. */
  readonly inBackground?: boolean | undefined;
}

export interface DecodedRun {
  /** So many, from the first one on, are present now. */
  readonly present: number;
  /** Of the one after them, as `decode` rejects with. Undefined too when the run ended early behind a span that was here already. */
  readonly error?: (Error & { readonly code?: string }) | undefined;
  /** Some are in memory only, for a moment and for those who wait for them: this is what the disk said. */
  readonly refused?: (Error & { readonly code?: string }) | undefined;
  /** The stream before the span that follows, at most 32 768 bytes. */
  readonly tail?: Uint8Array | undefined;
}

/** One wait of one read; times are ms of `performance.now()`. */
export interface ReadStall {
  /** Stream bytes that were read. */
  readonly offset: number;
  readonly length: number;
  readonly startedAt: number;
  readonly endedAt: number;
  /** Name of the errno that the read got; EINTR when its process was killed or it was given up. Undefined when it got its bytes. */
  readonly error: string | undefined;
}

export interface Evicted {
  /** Spans that were present and are not any more. */
  readonly evicted: number;
  /** Given back to the file system; blocks that a neighbour has bytes in stay. */
  readonly bytes: number;
}

/** What a cache's files are like. */
export interface CacheInspection {
  /** Name of the errno that the data file cannot be read for; undefined when it is there. */
  readonly data?: string | undefined;
  /** Bytes. */
  readonly dataSize: number;
  readonly expectedSize: number;
  /**
   * Undefined when the durable bitmap is right; ENOENT: there is none, ESTALE: it is of another index or data file, EILSEQ: it is damaged,
   * EPROTONOSUPPORT: a newer release wrote it.
   */
  readonly present?: string | undefined;
  /** Bytes of the checksums: 8 for each span up to the last that ever came. */
  readonly sumsSize: number;
  /** Somebody may be using the same data file by another index. */
  readonly liveIsForeign: boolean;
}

/** What native/src/binding/layer_cache.cpp exports; `handle` is opaque. */
interface Native {
  layerCacheOpen(dir: string, live: string, size: number, starts: Float64Array, of: Uint8Array, ro: boolean): object;
  layerCacheAdopt(
    dir: string,
    live: string,
    size: number,
    starts: Float64Array,
    of: Uint8Array,
    stream: string,
    complete: boolean,
  ): Promise<boolean>;
  layerCacheInspect(
    dir: string,
    live: string,
    size: number,
    starts: Float64Array,
    of: Uint8Array,
  ): Promise<CacheInspection>;
  layerCacheClose(handle: object): void;
  layerCacheIsPresent(handle: object, span: number): boolean;
  layerCacheIsAwaited(handle: object, span: number): boolean;
  layerCacheStat(handle: object): {
    spans: number;
    trailingZeros: number;
    complete: boolean;
    mending: boolean;
  };
  layerCachePresentBytes(handle: object): number;
  layerCacheOnMiss(handle: object, handler: (spans: Uint32Array) => void): void;
  layerCacheOnTouch(handle: object, handler: (spans: Uint32Array, at: Float64Array) => void): void;
  layerCacheOnStall(handle: object, handler: (numbers: Float64Array, dropped: number) => void): void;
  layerCacheWait(handle: object, offset: number, length: number): Promise<void>;
  layerCacheRead(handle: object, offset: number, length: number): Promise<Buffer>;
  layerCacheDecode(
    handle: object,
    first: number,
    decoder: string,
    bits: Uint8Array,
    bounds: Uint32Array,
    data: Uint8Array,
    window: Uint8Array | 'cached' | undefined,
    sha256: Uint8Array | undefined,
    openEnded: boolean,
    inBackground: boolean,
  ): Promise<DecodedRun & { readonly bytes: number }>;
  layerCacheFail(handle: object, span: number, errnoName: string): void;
  layerCacheSync(handle: object): Promise<void>;
  layerCacheMarkComplete(handle: object): Promise<void>;
  layerCacheDigest(handle: object): Promise<Buffer>;
  layerCacheVerify(handle: object, span: number): Promise<boolean>;
  layerCacheEvict(handle: object, spans: Uint32Array): Promise<Evicted>;
  layerCacheLastUsed(handle: object): Uint32Array;
  layerCacheCoarseNow(): number;
  layerCachePin(handle: object): Promise<object>;
  layerCacheUnpin(pin: object): void;
  setInflateBackend(name: string): boolean;
  layerCacheRemove(dir: string, live: string): Promise<boolean>;
}

/** What `performance.now()` counts from, in ms of CLOCK_MONOTONIC. */
const timeOrigin = Number(process.hrtime.bigint()) / 1e6 - performance.now();
/** Numbers that say one stall. */
const stallWidth = 5;

let handleOf: (cache: LayerCache) => object;

/**
 * The block cache of one layer: which spans of the layer stream are on this node, and their bytes. Any number of
 * processes may have it open; nobody can evict or remove it meanwhile.
 *
 * Errors of the system carry `code` (`ENOSPC`), `errno` and `syscall`; calls on a closed cache throw or reject with code
 * ERR_CLOSED, wrong arguments throw TypeError or RangeError.
 */
export class LayerCache {
  readonly #native = addon() as Native;
  readonly #handle: object;
  readonly #spanCount: number;
  readonly #running = new Set<Promise<unknown>>();
  #closing: Promise<void> | undefined;

  static {
    handleOf = (cache) => cache.#handle;
  }

  private constructor(options: LayerCacheOptions) {
    mkdirSync(dirname(options.dir), { recursive: true, mode: 0o700 });
    mkdirSync(dirname(options.livePath), { recursive: true, mode: 0o700 });
    this.#spanCount = options.spanStarts.length - 1;
    const { dir, livePath, streamSize, spanStarts, fingerprint } = options;
    this.#handle = this.#native.layerCacheOpen(
      dir,
      livePath,
      streamSize,
      spanStarts,
      fingerprint,
      options.readOnly ?? false,
    );
  }

  /**
   * Opens or makes the cache; a data file that was cut short loses what is not in it any more. Throws with an errno code: EINVAL for offsets
   * that are no span table, EPROTONOSUPPORT for files that a newer release wrote.
   */
  static open(options: LayerCacheOptions): LayerCache {
    return new LayerCache(options);
  }

  /**
   * Makes a stream that was written whole to the file `stream` (of exactly `streamSize` bytes, on the same filesystem as
   * `dir`, best inside it) the layer's data, with every span present and, when its diffID was checked, complete. The
   * file is renamed. False when some process has the layer open; the file is then still there.
   */
  static async adopt(options: LayerCacheOptions, stream: string, state: { complete: boolean }): Promise<boolean> {
    mkdirSync(options.dir, { recursive: true, mode: 0o700 });
    const { dir, livePath, streamSize, spanStarts, fingerprint } = options;
    const native = addon() as Native;
    return native.layerCacheAdopt(dir, livePath, streamSize, spanStarts, fingerprint, stream, state.complete);
  }

  /** Looks at the files, takes no lock and changes nothing. Rejects with an errno code. */
  static async inspect(options: Omit<LayerCacheOptions, 'readOnly'>): Promise<CacheInspection> {
    const { dir, livePath, streamSize, spanStarts, fingerprint } = options;
    return (addon() as Native).layerCacheInspect(dir, livePath, streamSize, spanStarts, fingerprint);
  }

  /** Removes a layer from disk and its live bits; false when some process has it open. */
  static async tryRemove(dir: string, livePath: string): Promise<boolean> {
    return (addon() as Native).layerCacheRemove(dir, livePath);
  }

  /**
   * Called with spans that somebody waits for, each once until it is decoded or failed. Replaces the handler before;
   * spans already asked for are reported to the new one. Does not keep the process alive.
   */
  onMiss(handler: (spans: Uint32Array) => void): void {
    this.#native.layerCacheOnMiss(this.#handle, handler);
  }

  /**
   * Called with the spans that are read for the first time since this cache was opened, present or not, in the order of those reads,
   * and when each was (ms of `performance.now()`). Those of before are told to the first handler. It is told of a span no later than
   * the handler of misses. Replaces the handler before. Does not keep the process alive.
   */
  onTouch(handler: (spans: Uint32Array, at: Float64Array) => void): void {
    this.#native.layerCacheOnTouch(this.#handle, (spans, at) => handler(spans, at.map(fromMonotonic)));
  }

  /**
   * Called with the reads that had to wait, when their wait is over: of a read over two layers each waits by itself. When more than
   * 65 536 come at once the others are only counted, in `dropped`. Replaces the handler before. Does not keep the process alive.
   */
  onStall(handler: (stalls: readonly ReadStall[], dropped: number) => void): void {
    this.#native.layerCacheOnStall(this.#handle, (numbers, dropped) => handler(stallsOf(numbers), dropped));
  }

  /** Whether the span can be read now. True also wakes the reads that wait for it, when another process brought it. */
  isPresent(span: number): boolean {
    return this.#native.layerCacheIsPresent(this.#handle, this.#span(span));
  }

  /** Whether reads wait for the span. */
  isAwaited(span: number): boolean {
    return this.#native.layerCacheIsAwaited(this.#handle, this.#span(span));
  }

  get presentSpans(): number {
    return this.#native.layerCacheStat(this.#handle).spans;
  }

  /** Stream bytes of the present spans. */
  get presentBytes(): number {
    return this.#native.layerCachePresentBytes(this.#handle);
  }

  /** Bytes of the stream past `streamSize`, all zeros; known once an open-ended last span was decoded. */
  get trailingZeros(): number {
    return this.#native.layerCacheStat(this.#handle).trailingZeros;
  }

  /** The whole stream was checked against the layer's diffID: the registry is not needed any more. */
  get complete(): boolean {
    return this.#native.layerCacheStat(this.#handle).complete;
  }

  /** It was complete until a span turned out wrong, and is when that is here again. Others may read the file itself: nothing else goes. */
  get mending(): boolean {
    return this.#native.layerCacheStat(this.#handle).mending;
  }

  /** Resolves when every byte of the stream range is present; rejects with the errno code given to fail(). */
  async wait(offset: number, length: number): Promise<void> {
    return this.#native.layerCacheWait(this.#handle, offset, length);
  }

  /** Bytes of the stream. Rejects with EAGAIN when not all of them are present. */
  async read(offset: number, length: number): Promise<Buffer> {
    return this.#track(this.#native.layerCacheRead(this.#handle, offset, length));
  }

  /**
   * Verifies, decodes and stores one span and wakes whoever waits for it, who gets it from memory when the disk refuses it. Resolves to the stream bytes it gave, for an
   * open-ended span with the zeros past `streamSize`. Rejects with ERR_SPAN_DIGEST, ERR_SPAN_INFLATE, ERR_SPAN_LENGTH
   * or an errno code; the span is then not present, and its waiters wait on until another decode() or fail().
   */
  async decode({ span, bits, data, ...request }: DecodeRequest): Promise<number> {
    const pieces = { bits: Uint8Array.of(bits), bounds: Uint32Array.of(0, data.length) };
    const { error, bytes } = await this.#decode({ first: span, ...pieces, data, ...request });
    if (error !== undefined) throw error;
    return bytes;
  }

  /**
   * As `decode` for spans that follow one another, each of which takes its window from the one before. Rejects only when the arguments are
   * wrong or the cache is closed; what happened to the spans is in the result.
   */
  async decodeRun(run: DecodeRun): Promise<DecodedRun> {
    return await this.#decode(run);
  }

  #decode(run: DecodeRun): ReturnType<Native['layerCacheDecode']> {
    const { first, decoder, bits, bounds, data, window, sha256, openEnded, inBackground = false } = run;
    const pieces = [this.#span(first), decoder, bits, bounds] as const;
    return this.#track(
      this.#native.layerCacheDecode(this.#handle, ...pieces, data, window, sha256, openEnded, inBackground),
    );
  }

  /** Gives up on a span: whoever waits for it gets this error; the next read asks for it again. A closed cache has nobody to tell. */
  fail(span: number, errnoName: string): void {
    if (this.#closing !== undefined) return;
    if (!(errnoName in constants.errno)) throw new TypeError(`not the name of an errno: ${errnoName}`);
    this.#native.layerCacheFail(this.#handle, this.#span(span), errnoName);
  }

  /** Records durably that the stream is whole and checked. Rejects with ENODATA while a span is missing. */
  async markComplete(): Promise<void> {
    return this.#track(this.#native.layerCacheMarkComplete(this.#handle));
  }

  /** Makes what is present survive a power cut. */
  async sync(): Promise<void> {
    return this.#track(this.#native.layerCacheSync(this.#handle));
  }

  /** sha256 of the whole stream, zeros past `streamSize` included. Rejects with ENODATA while a span is missing. */
  async digest(): Promise<Buffer> {
    return this.#track(this.#native.layerCacheDigest(this.#handle));
  }

  /** Reads a span back and compares with the checksum made at decode; false: it was wrong and is not present any more. */
  async verify(span: number): Promise<boolean> {
    return this.#track(this.#native.layerCacheVerify(this.#handle, this.#span(span)));
  }

  /**
   * Takes spans out while others read them, in this and other processes: such a read gets its bytes or waits until they are fetched
   * again. Nothing is evicted of a layer that is complete, pinned, or in use by a process too old to notice. Rejects with EOPNOTSUPP
   * where the file system cannot make holes, or another errno code; RangeError for spans that the layer does not have.
   */
  async evict(spans: Uint32Array): Promise<Evicted> {
    for (const span of spans) this.#span(span);
    return this.#track(this.#native.layerCacheEvict(this.#handle, spans));
  }

  /** For each span the second of `coarseNow` in which it was read last by anybody or came, 1 where that is not known, 0 when it is not present. */
  lastUsed(): Uint32Array {
    return this.#native.layerCacheLastUsed(this.#handle);
  }

  /** Seconds of the clock that `lastUsed` is in; it does not go back and is the same in all processes. */
  coarseNow(): number {
    return this.#native.layerCacheCoarseNow();
  }

  /**
   * Until the returned function is called nothing is evicted, in any process. For whoever reads the data file himself. Waits for an eviction
   * under way. Its holder keeps the layer open, also when the cache is closed. The function may be called more than once.
   */
  async pin(): Promise<() => void> {
    const pin = await this.#track(this.#native.layerCachePin(this.#handle));
    return () => this.#native.layerCacheUnpin(pin);
  }

  /** Waiters get EIO; work that runs is waited for. The files and the lock go with the last native user. Idempotent. */
  async close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#native.layerCacheClose(this.#handle);
    await Promise.allSettled(this.#running);
  }

  async #track<T>(work: Promise<T>): Promise<T> {
    this.#running.add(work);
    try {
      return await work;
    } finally {
      this.#running.delete(work);
    }
  }

  #span(span: number): number {
    if (!Number.isInteger(span) || span < 0 || span >= this.#spanCount) {
      throw new RangeError(`span ${span} of a layer with ${this.#spanCount} spans`);
    }
    return span;
  }
}

function fromMonotonic(ns: number): number {
  return ns / 1e6 - timeOrigin;
}

function stallsOf(numbers: Float64Array): ReadStall[] {
  const stalls: ReadStall[] = [];
  for (let at = 0; at < numbers.length; at += stallWidth) {
    const [offset = 0, length = 0, start = 0, end = 0, errno = 0] = numbers.subarray(at, at + stallWidth);
    const error = errno === 0 ? undefined : getSystemErrorName(-errno);
    stalls.push({ offset, length, startedAt: fromMonotonic(start), endedAt: fromMonotonic(end), error });
  }
  return stalls;
}

/** The native object behind a cache, for other faces of the addon (a FUSE server reads through it). */
export function nativeLayerCache(cache: LayerCache): object {
  return handleOf(cache);
}

/**
 * Which library inflates spans: ISA-L where it was there at build time, else zlib. False when it is not built in. For
 * tests and benchmarks, which run over both.
 */
export function setInflateBackend(name: 'isal' | 'zlib'): boolean {
  return (addon() as Native).setInflateBackend(name);
}
