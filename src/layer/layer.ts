// One layer ready to serve: its index, its block cache, and the fetcher that fills the cache when a read misses.
import type { SpanTable } from '../index/layer-index.ts';
import type { NodeIndex } from '../index/node-index.ts';
import type { LayerCache } from '../native/layer-cache.ts';
import type { Logger } from '../observe/log.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { digestAlgorithm, digestFromSha256 } from '../oci/digest.ts';
import type { Digest } from '../oci/digest.ts';
import type { LayerRow, LayerTable } from '../state/layers.ts';
import type { TarEntry } from '../tar/entry.ts';
import type { Semaphore } from '../util/semaphore.ts';
import { untilAborted } from '../util/until-aborted.ts';
import type { BlobSource } from './blob-source.ts';
import { LayerError, errorCode, errorMessage } from './errors.ts';
import { isSpanContentError, isWindowContentError } from './fetch-errors.ts';
import { isRefusedByDisk } from './fetch-trouble.ts';
import type { FetchClass } from './fetch-class.ts';
import { SpanFetcher } from './fetcher.ts';
import { fillLayer, type FillOptions } from './fill-layer.ts';
import { LayerActivity } from './layer-activity.ts';
import type { SpanFetch } from './layer-activity.ts';
import type { LayerPaths } from './layer-paths.ts';
import type { LinkTable } from './link-table.ts';
import { SyncSchedule } from './sync-schedule.ts';
import { openWindows } from './open-windows.ts';
import { WindowFile } from './window-file.ts';
import type { WindowStore } from './window-store.ts';

export interface LayerInit {
  readonly descriptor: Descriptor;
  readonly diffId: Digest;
  readonly paths: LayerPaths;
  readonly row: Pick<LayerRow, 'indexFormat' | 'indexDigest' | 'indexSource' | 'reason'>;
  /** Owned by the layer from now on, as is the cache. */
  readonly index: NodeIndex;
  readonly cache: LayerCache;
  readonly source: BlobSource;
  /** Requests at once of the image, and of the process. */
  readonly imageSlots: Semaphore;
  readonly nodeSlots: Semaphore;
  readonly links: LinkTable;
  readonly readDeadlineMs: number;
  readonly table: LayerTable;
  readonly log: Logger;
  /** Called with the number of spans that a reader wants and that are not here. */
  readonly onMiss?: ((spans: number) => void) | undefined;
}

/** What fetches, and the windows for it where the index has them not itself. */
interface Bringing {
  readonly fetcher: SpanFetcher;
  readonly windows: WindowStore | undefined;
}

export interface ReadOptions {
  readonly signal?: AbortSignal | undefined;
}

/** Before a whole layer that could not be recorded as checked is read again for it, ms. */
const recheckMs = 60_000;

export class Layer {
  readonly descriptor: Descriptor;
  readonly diffId: Digest;
  readonly paths: LayerPaths;
  readonly row: LayerInit['row'];
  readonly spans: SpanTable;
  /** 32 bytes that stand for the index file. */
  readonly fingerprint: Uint8Array;
  /** For the servers that read it without us. */
  readonly cache: LayerCache;
  readonly activity = new LayerActivity();
  readonly #init: LayerInit;
  readonly #syncs: SyncSchedule;
  #bringing: Bringing | undefined;
  #completing: Promise<void> | undefined;
  #recheck: NodeJS.Timeout | undefined;
  #dropping: Promise<void> | undefined;
  #broken: string | undefined;
  #closed: Promise<void> | undefined;

  constructor(init: LayerInit) {
    this.#init = init;
    this.descriptor = init.descriptor;
    this.diffId = init.diffId;
    this.paths = init.paths;
    this.row = init.row;
    this.spans = init.index.spans;
    this.fingerprint = init.index.fingerprint;
    this.cache = init.cache;
    this.#syncs = new SyncSchedule(() => this.#sync(), init.log);
    init.cache.onTouch((spans, at) => this.activity.touched(spans, at));
    init.cache.onStall((stalls) => this.activity.stalled(stalls));
    init.cache.onMiss((spans) => {
      init.onMiss?.(spans.length);
      if (this.#isServed) this.#fetcher.request(spans);
      else for (const span of spans) init.cache.fail(span, 'EIO');
    });
    this.#completeIfWhole();
  }

  /** Made when something is to come: after a restart there are hundreds of layers, and most of them are here or not read. */
  get #fetcher(): SpanFetcher {
    this.#bringing ??= this.#bring();
    return this.#bringing.fetcher;
  }

  #bring(): Bringing {
    const { links, source, index, cache, descriptor, imageSlots, nodeSlots, log, readDeadlineMs } = this.#init;
    const link = links.of(source);
    const windows = openWindows({ ...this.#init, link });
    const fetcher = new SpanFetcher({
      layer: descriptor.digest,
      spans: index.spans,
      sink: cache,
      source,
      slots: [imageSlots, link.slots, nodeSlots],
      link,
      decodeBytes: links.decodeBytes,
      clock: links.clock,
      log,
      readDeadlineMs,
      onFetched: (fetch) => this.#landed(fetch),
      onSuspect: (why) => this.#suspect(why),
      onRefused: (error) => this.activity.refused(error),
    });
    return { fetcher, windows };
  }

  /** Bytes of the layer stream. */
  get streamSize(): number {
    return this.spans.streamSize;
  }

  /** What is in the cache; nothing once the layer is closed or not served any more. */
  get present(): { readonly spans: number; readonly bytes: number; readonly complete: boolean } {
    if (!this.#isServed) return { spans: 0, bytes: 0, complete: false };
    return { spans: this.cache.presentSpans, bytes: this.cache.presentBytes, complete: this.complete };
  }

  /** Why reads failed last, or why nothing is read any more. */
  get lastError(): string | undefined {
    return this.#broken ?? this.#bringing?.fetcher.lastFailure;
  }

  /** It was checked against its diffID and needs no registry. False once it is closed or not served any more. */
  get complete(): boolean {
    return this.#isServed && (this.cache.complete || this.spans.count === 0);
  }

  /** Why reads failed last, if any did. */
  get lastFailure(): string | undefined {
    return this.lastError;
  }

  /**
   * Stream bytes [offset, offset+length), fetched when they are missing. Errors: ERR_LAYER_FETCH, ERR_LAYER_DISK,
   * ERR_LAYER_DIGEST, ERR_LAYER_CLOSED; the signal's reason.
   */
  async read(offset: number, length: number, options: ReadOptions = {}): Promise<Buffer> {
    options.signal?.throwIfAborted();
    if (length === 0) return Buffer.alloc(0);
    this.#throwIfGone();
    try {
      for (;;) {
        await untilAborted(this.cache.wait(offset, length), options.signal);
        const bytes = await this.#readPresent(offset, length);
        if (bytes !== undefined) return bytes;
        options.signal?.throwIfAborted();
      }
    } catch (cause) {
      options.signal?.throwIfAborted();
      throw this.#readError(cause);
    }
  }

  /** Undefined when some of it was evicted since it was there. */
  async #readPresent(offset: number, length: number): Promise<Buffer | undefined> {
    try {
      return await this.cache.read(offset, length);
    } catch (error) {
      if (errorCode(error) === 'EAGAIN') return undefined;
      throw error;
    }
  }

  /**
   * Brings all that is missing, the stream in order, and checks the whole: the layer is complete then. Nothing is evicted meanwhile.
   * Errors: ERR_LAYER_FETCH, ERR_LAYER_SHORT, ERR_LAYER_DISK, ERR_LAYER_DIGEST (not the diffID), ERR_LAYER_INDEX (the index is not of this blob),
   * ERR_LAYER_UNSUPPORTED, ERR_LAYER_CLOSED; the signal's reason.
   */
  async fillCache(options: FillOptions): Promise<void> {
    const { signal } = options;
    const { digest } = this.descriptor;
    if (digestAlgorithm(this.diffId) !== 'sha256') {
      throw new LayerError('ERR_LAYER_UNSUPPORTED', `layer ${digest} cannot be checked against ${this.diffId}`);
    }
    this.#throwIfGone();
    let unpin = (): void => {};
    try {
      unpin = await this.cache.pin();
      const target = { spans: this.spans, bring: (span: number) => this.#fetcher.bring(span) };
      if (this.complete) options.onProgress?.(this.streamSize);
      else await fillLayer(target, options);
      this.#completeIfWhole();
      await untilAborted(this.#completing ?? Promise.resolve(), signal);
    } catch (cause) {
      signal.throwIfAborted();
      throw this.#fillError(cause);
    } finally {
      unpin();
    }
    this.#throwIfGone();
    if (!this.complete) {
      throw new LayerError('ERR_LAYER_DISK', `layer ${digest} under ${this.paths.dir} cannot be checked`);
    }
  }

  /**
   * Until the returned function is called nothing is evicted: for whoever reads the layer's file himself. Errors: ERR_LAYER_CLOSED,
   * ERR_LAYER_DIGEST, ERR_LAYER_FETCH for what the system says.
   */
  async pin(): Promise<() => void> {
    this.#throwIfGone();
    try {
      return await this.cache.pin();
    } catch (cause) {
      throw this.#readError(cause);
    }
  }

  /** Asks for spans that nobody waits for yet; those that are here or asked for already cost nothing. Never fails. */
  want(spans: Iterable<number>, fetchClass: FetchClass): void {
    if (this.#isServed) this.#fetcher.want(spans, fetchClass);
  }

  /** Takes back what was wanted as that and was not asked for yet. Never fails. */
  forget(fetchClass: Exclude<FetchClass, 'demand'>): void {
    this.#bringing?.fetcher.forget(fetchClass);
  }

  /** The tar members as the index has them; read from disk and not kept. Errors: IndexError. */
  entries(): readonly TarEntry[] {
    return this.#init.index.entries;
  }

  /** Ends transfers, makes the cache durable and lets go of it. Idempotent. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    await this.#bringing?.fetcher.close();
    await this.#completing;
    clearTimeout(this.#recheck);
    await this.#dropping;
    await this.#bringing?.windows?.close();
    await this.#syncs.close();
    await this.cache.close();
    await this.#init.index.close();
  }

  #landed(fetch: SpanFetch): void {
    this.#syncs.spanLanded();
    this.activity.fetched(fetch);
    this.#completeIfWhole();
  }

  /** Errors: errno codes. */
  async #sync(): Promise<void> {
    try {
      await this.cache.sync();
    } catch (error) {
      // What it did not take is brought again when it is wanted, and must not be at once and for ever.
      if (isRefusedByDisk(error)) this.activity.refused(error);
      throw error;
    }
  }

  #completeIfWhole(): void {
    if (this.complete) {
      this.#dropping ??= this.#dropWindows();
      return;
    }
    if (this.cache.presentSpans < this.spans.count || digestAlgorithm(this.diffId) !== 'sha256') return;
    this.#completing ??= this.#complete();
  }

  /** All spans are here: from now on the layer needs no registry, if it is what the config says. Never rejects. */
  async #complete(): Promise<void> {
    const { log, cache } = this.#init;
    let unpin = (): void => {};
    try {
      // What is evicted and fetched again between the two would be marked as checked, and was not.
      unpin = await cache.pin();
      const found = digestFromSha256(await cache.digest());
      if (found === this.diffId) {
        await cache.markComplete();
        // Spans may be lost later, by a failing disk.
        this.#completing = undefined;
        log.debug({ layer: this.descriptor.digest }, 'layer is complete');
        // Once more for what was fetched since the layer was complete before.
        this.#dropping = this.#dropWindows();
        await this.#dropping;
        // A span may turn out wrong later, and come again.
        this.#completing = undefined;
        return;
      }
      // It is the disk's fault, and what is wrong comes again, if bytes are not what was decoded any more.
      if (await this.#dropWrong()) {
        this.#completing = undefined;
        return;
      }
      this.#broken = `layer ${this.descriptor.digest} unpacks to ${found}, but the image config says ${this.diffId}: it is not served any more`;
      this.#suspect(this.#broken);
      await this.#bringing?.fetcher.close();
      // Readers that do not come through here must not get these bytes either.
      await cache.close();
    } catch (error) {
      this.#completing = undefined;
      // Evicted before it was pinned: it is tried again when it is whole again.
      if (errorCode(error) === 'ENODATA') return;
      log.warn({ layer: this.descriptor.digest, error: errorMessage(error) }, 'cannot check the whole layer');
      if (isRefusedByDisk(error)) this.activity.refused(error);
      clearTimeout(this.#recheck);
      if (this.#isServed) this.#recheck = setTimeout(() => this.#completeIfWhole(), recheckMs).unref();
    } finally {
      unpin();
    }
  }

  /** Takes out what was changed on disk since it was decoded; false when nothing was. Errors: errno codes. */
  async #dropWrong(): Promise<boolean> {
    let found = false;
    for (let span = 0; span < this.spans.count; span += 1) {
      if (!this.cache.isPresent(span)) found = true;
      else if (!(await this.cache.verify(span))) found = true;
    }
    return found;
  }

  /** No span is to be fetched any more. Never rejects. */
  async #dropWindows(): Promise<void> {
    const { log, paths, index } = this.#init;
    if (index.windows === undefined) return;
    try {
      await (this.#bringing?.windows ?? new WindowFile(paths.windows)).drop();
    } catch (error) {
      log.warn({ path: paths.windows, error: errorMessage(error) }, 'windows of a complete layer cannot be removed');
    }
  }

  get #isServed(): boolean {
    return this.#closed === undefined && this.#broken === undefined;
  }

  #suspect(why: string): void {
    const { table, log, descriptor } = this.#init;
    try {
      if (table.get(descriptor.digest)?.suspect === undefined)
        log.error({ layer: descriptor.digest, why }, 'layer is suspect');
      table.markSuspect(descriptor.digest, why);
    } catch (error) {
      // A database that cannot be written must not end the mount.
      log.error(
        { layer: descriptor.digest, why, error: errorMessage(error) },
        'cannot record that the layer is suspect',
      );
    }
  }

  #throwIfGone(): void {
    const gone = this.#goneError();
    if (gone !== undefined) throw gone;
  }

  #goneError(cause?: unknown): LayerError | undefined {
    const options = cause === undefined ? {} : { cause };
    if (this.#broken !== undefined) return new LayerError('ERR_LAYER_DIGEST', this.#broken, options);
    if (this.#closed === undefined) return undefined;
    return new LayerError('ERR_LAYER_CLOSED', `layer ${this.descriptor.digest} is closed`, options);
  }

  #fillError(cause: unknown): LayerError {
    const gone = this.#goneError(cause);
    if (gone !== undefined) return gone;
    if (cause instanceof LayerError) return cause;
    if (!isSpanContentError(cause) && !isWindowContentError(cause)) return this.#readError(cause);
    const message = `layer ${this.descriptor.digest} is not as its index says: ${errorMessage(cause)}`;
    return new LayerError('ERR_LAYER_INDEX', message, { cause });
  }

  #readError(cause: unknown): LayerError {
    const gone = this.#goneError(cause);
    if (gone !== undefined) return gone;
    const errno = errorCode(cause);
    if (errno === 'ENOSPC' || errno === 'EDQUOT') {
      return new LayerError(
        'ERR_LAYER_DISK',
        `no space left under ${this.paths.dir} for layer ${this.descriptor.digest}`,
        { cause },
      );
    }
    const why = this.lastError ?? errorMessage(cause);
    return new LayerError('ERR_LAYER_FETCH', `cannot read layer ${this.descriptor.digest}: ${why}`, { cause });
  }
}
