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
import type { BlobSource } from './blob-source.ts';
import { LayerError, errorCode, errorMessage } from './errors.ts';
import { SpanFetcher } from './fetcher.ts';
import type { LayerPaths } from './layer-paths.ts';
import { SyncSchedule } from './sync-schedule.ts';

export interface LayerInit {
  readonly descriptor: Descriptor;
  readonly diffId: Digest;
  readonly paths: LayerPaths;
  readonly row: Pick<LayerRow, 'indexFormat' | 'indexDigest' | 'indexSource' | 'reason'>;
  /** Owned by the layer from now on, as is the cache. */
  readonly index: NodeIndex;
  readonly cache: LayerCache;
  readonly source: BlobSource;
  readonly slots: readonly Semaphore[];
  readonly readDeadlineMs: number;
  readonly table: LayerTable;
  readonly log: Logger;
  /** Called with the number of spans that a reader wants and that are not here. */
  readonly onMiss?: ((spans: number) => void) | undefined;
}

export interface ReadOptions {
  readonly signal?: AbortSignal | undefined;
}

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
  readonly #init: LayerInit;
  readonly #fetcher: SpanFetcher;
  readonly #syncs: SyncSchedule;
  #completing: Promise<void> | undefined;
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
    this.#syncs = new SyncSchedule(() => init.cache.sync(), init.log);
    this.#fetcher = new SpanFetcher({
      layer: init.descriptor.digest,
      spans: init.index.spans,
      sink: init.cache,
      source: init.source,
      slots: init.slots,
      log: init.log,
      readDeadlineMs: init.readDeadlineMs,
      onLanded: () => this.#landed(),
      onSuspect: (why) => this.#suspect(why),
    });
    init.cache.onMiss((spans) => {
      init.onMiss?.(spans.length);
      this.#fetcher.request(spans);
    });
    this.#completeIfWhole();
  }

  /** Bytes of the layer stream. */
  get streamSize(): number {
    return this.spans.streamSize;
  }

  /** What is in the cache; nothing once the layer is closed or not served any more. */
  get present(): { readonly spans: number; readonly bytes: number; readonly complete: boolean } {
    if (this.#closed !== undefined || this.#broken !== undefined) return { spans: 0, bytes: 0, complete: false };
    return { spans: this.cache.presentSpans, bytes: this.cache.presentBytes, complete: this.complete };
  }

  /** Why reads failed last, or why nothing is read any more. */
  get lastError(): string | undefined {
    return this.#broken ?? this.#fetcher.lastFailure;
  }

  get complete(): boolean {
    return this.cache.complete || this.spans.count === 0;
  }

  /** Why reads failed last, if any did. */
  get lastFailure(): string | undefined {
    return this.#broken ?? this.#fetcher.lastFailure;
  }

  /**
   * Stream bytes [offset, offset+length), fetched when they are missing. Errors: ERR_LAYER_FETCH, ERR_LAYER_DISK,
   * ERR_LAYER_DIGEST, ERR_LAYER_CLOSED; the signal's reason.
   */
  async read(offset: number, length: number, options: ReadOptions = {}): Promise<Buffer> {
    options.signal?.throwIfAborted();
    if (length === 0) return Buffer.alloc(0);
    if (this.#broken !== undefined) throw new LayerError('ERR_LAYER_DIGEST', this.#broken);
    if (this.#closed !== undefined)
      throw new LayerError('ERR_LAYER_CLOSED', `layer ${this.descriptor.digest} is closed`);
    try {
      await abortable(this.cache.wait(offset, length), options.signal);
      return await this.cache.read(offset, length);
    } catch (cause) {
      options.signal?.throwIfAborted();
      throw this.#readError(cause);
    }
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
    await this.#fetcher.close();
    await this.#completing;
    await this.#syncs.close();
    await this.cache.close();
    await this.#init.index.close();
  }

  #landed(): void {
    this.#syncs.spanLanded();
    this.#completeIfWhole();
  }

  #completeIfWhole(): void {
    if (
      this.spans.count === 0 ||
      this.cache.complete ||
      this.cache.presentSpans < this.spans.count ||
      digestAlgorithm(this.diffId) !== 'sha256'
    )
      return;
    this.#completing ??= this.#complete();
  }

  /** All spans are here: from now on the layer needs no registry, if it is what the config says. Never rejects. */
  async #complete(): Promise<void> {
    const { log, cache } = this.#init;
    try {
      const found = digestFromSha256(await cache.digest());
      if (found === this.diffId) {
        await cache.markComplete();
        log.debug({ layer: this.descriptor.digest }, 'layer is complete');
        return;
      }
      this.#broken = `layer ${this.descriptor.digest} unpacks to ${found}, but the image config says ${this.diffId}: it is not served any more`;
      this.#suspect(this.#broken);
      await this.#fetcher.close();
      // Readers that do not come through here must not get these bytes either.
      await cache.close();
    } catch (error) {
      log.warn({ layer: this.descriptor.digest, error: errorMessage(error) }, 'cannot check the whole layer');
    }
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

  #readError(cause: unknown): LayerError {
    if (this.#broken !== undefined) return new LayerError('ERR_LAYER_DIGEST', this.#broken, { cause });
    if (this.#closed !== undefined)
      return new LayerError('ERR_LAYER_CLOSED', `layer ${this.descriptor.digest} is closed`, { cause });
    const errno = errorCode(cause);
    if (errno === 'ENOSPC' || errno === 'EDQUOT') {
      return new LayerError(
        'ERR_LAYER_DISK',
        `no space left under ${this.paths.dir} for layer ${this.descriptor.digest}`,
        { cause },
      );
    }
    const why = this.#fetcher.lastFailure ?? errorMessage(cause);
    return new LayerError('ERR_LAYER_FETCH', `cannot read layer ${this.descriptor.digest}: ${why}`, { cause });
  }
}

function abortable<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  return new Promise<T>((resolve, reject) => {
    const onAbort = () => reject(signal.reason as Error);
    signal.addEventListener('abort', onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}
