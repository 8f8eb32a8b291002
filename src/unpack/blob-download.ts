import type { BlobSource } from '../layer/blob-source.ts';
import { LayerError, errorMessage } from '../layer/errors.ts';
import { TransferRetries } from '../layer/transfer-retries.ts';
import type { Logger } from '../observe/log.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { clampRange } from '../registry/blob-range.ts';
import { RegistryError } from '../registry/errors.ts';
import { CallScope, scopedReader } from '../registry/streams/call-scope.ts';
import type { BackoffTimer } from '../util/backoff.ts';
import { untilAborted } from '../util/until-aborted.ts';
import type { BlobFeed } from './blob-feed.ts';
import { ChunkedBlob } from './chunked-blob.ts';
import type { ChunkWriter } from './chunk-writer.ts';
import { UnpackError } from './errors.ts';
import { fetchError } from './feed-errors.ts';
import { receiveBody } from './receive-body.ts';
import { refusesRanges, wereRangesRefused } from './refused-ranges.ts';

export interface BlobDownloadOptions {
  /** The job's: gets the files `blob` and `chunks`. */
  readonly folder: string;
  readonly descriptor: Descriptor;
  readonly source: BlobSource;
  /** A permission to have one request under way. */
  readonly acquire: (options: { readonly signal: AbortSignal }) => Promise<Disposable>;
  /** Bytes of one request. */
  readonly chunkSize: number;
  readonly log: Logger;
  /** Told how many bytes of the blob are in the file. */
  readonly onProgress?: ((done: number) => void) | undefined;
  /** Ends the opening, and nothing after it. */
  readonly signal?: AbortSignal | undefined;
  readonly timer?: BackoffTimer | undefined;
}

/**
 * One blob on its way from a registry into a job's folder: as many ranges at once as there are leases, in the order of the blob. It begins when it is
 * opened, with what earlier processes have not brought. A registry without ranges sends all of it in one stream.
 */
export class BlobDownload implements BlobFeed {
  readonly kind = 'job';
  readonly source: BlobSource;
  readonly #o: BlobDownloadOptions;
  readonly #blob: ChunkedBlob;
  readonly #closing = new AbortController();
  /** Never rejects. */
  readonly #work: Promise<void>;
  readonly #pausing = new Set<Promise<void>>();
  #closed: Promise<void> | undefined;

  private constructor(options: BlobDownloadOptions, blob: ChunkedBlob) {
    this.#o = options;
    this.#blob = blob;
    const { descriptor, source } = options;
    const reader = async (start: number, end: number, signal: AbortSignal | undefined) => {
      const scope = new CallScope(signal);
      return scopedReader(descriptor, blob.read(start, end, scope.signal), scope);
    };
    this.source = {
      name: source.name,
      readRange: async (start, end, { signal } = {}) => {
        const range = clampRange({ start, end }, source.name, descriptor.size);
        return await reader(range.start, range.end, signal);
      },
      readAll: ({ signal } = {}) => reader(0, descriptor.size, signal),
    };
    this.#work = this.#run();
  }

  /** Errors: ERR_UNPACK_DISK; the signal's reason. */
  static async open(options: BlobDownloadOptions): Promise<BlobDownload> {
    const { folder, descriptor, chunkSize, onProgress = () => {}, signal = new AbortController().signal } = options;
    const blob = await ChunkedBlob.open({ folder, blob: descriptor, chunkSize, onProgress, signal });
    if (blob.done > 0) {
      options.log.info({ blob: options.source.name, bytes: blob.done, of: blob.size }, 'download resumed');
      onProgress(blob.done);
    }
    return new BlobDownload(options, blob);
  }

  get path(): string {
    return this.#blob.path;
  }

  stream({ signal }: { readonly signal: AbortSignal }): AsyncIterable<Uint8Array> {
    return this.#stream(signal);
  }

  async inFile(): Promise<boolean> {
    await this.#work;
    return this.#blob.isWhole;
  }

  async close(): Promise<void> {
    this.#closed ??= this.#close();
    await this.#closed;
  }

  async *#stream(signal: AbortSignal): AsyncGenerator<Uint8Array> {
    yield* this.#blob.read(0, this.#blob.size, signal);
    // The last bytes may be handed on before they are in the file.
    await untilAborted(this.#work, signal);
    this.#blob.throwIfEnded();
  }

  async #close(): Promise<void> {
    this.#end(new UnpackError('ERR_UNPACK_CANCELLED', `the download of ${this.#o.source.name} was closed`));
    await this.#work;
    await this.#blob.close();
  }

  #end(reason: UnpackError): void {
    this.#blob.end(reason);
    this.#closing.abort(reason);
  }

  async #run(): Promise<void> {
    try {
      try {
        await this.#inRanges();
      } catch (error) {
        if (!wereRangesRefused(error)) throw error;
        const { log, source } = this.#o;
        log.warn(
          { blob: source.name, error: errorMessage(error) },
          'no ranges are to be had, downloading in one stream',
        );
        await this.#inOneStream();
      }
    } catch (error) {
      this.#end(fetchError(this.#o.source.name, error));
    }
  }

  /** Errors: LayerError, RegistryError, UnpackError, of the first chunk that failed; all others have ended then. */
  async #inRanges(): Promise<void> {
    const scope = new CallScope(this.#closing.signal);
    const running = new Set<Promise<void>>();
    let failure: { readonly error: unknown } | undefined;
    const fail = (error: unknown) => {
      failure ??= { error };
      scope.end();
    };
    try {
      for (let index = 0; index < this.#blob.count && !scope.signal.aborted; index += 1) {
        if (this.#blob.isPresent(index)) continue;
        const lease = await this.#leaseForNext(scope.signal);
        const work = this.#fetchChunk(index, lease, scope.signal)
          .catch(fail)
          .finally(() => running.delete(work));
        running.add(work);
      }
    } catch (error) {
      fail(error);
    }
    await Promise.all(running);
    scope.end();
    if (failure !== undefined) throw failure.error;
  }

  /** None is begun while one that broke pauses: a registry in trouble is not asked for ever more chunks. */
  async #leaseForNext(signal: AbortSignal): Promise<Disposable> {
    for (;;) {
      const lease = await this.#o.acquire({ signal });
      if (this.#pausing.size === 0) return lease;
      lease[Symbol.dispose]();
      await Promise.race(this.#pausing);
    }
  }

  async #fetchChunk(index: number, first: Disposable, signal: AbortSignal): Promise<void> {
    const chunk = this.#blob.writer(index);
    const retries = this.#retries();
    for (let given: Disposable | undefined = first; ; given = undefined) {
      try {
        using _lease = given ?? (await this.#o.acquire({ signal }));
        signal.throwIfAborted();
        if (chunk.received < chunk.end) await this.#receive(index, chunk, retries, signal);
        await this.#blob.seal(index);
        return;
      } catch (cause) {
        if (cause instanceof UnpackError || refusesRanges(cause)) throw cause;
        await this.#failed(retries, cause, chunk.received, signal);
      }
    }
  }

  async #receive(index: number, chunk: ChunkWriter, retries: TransferRetries, signal: AbortSignal): Promise<void> {
    const { source } = this.#o;
    const reader = await source.readRange(chunk.received, chunk.end, { signal });
    const take = (piece: Uint8Array) => {
      const pause = chunk.push(piece);
      retries.progressed();
      this.#blob.grew(index);
      return pause;
    };
    await receiveBody(reader, take, signal);
    if (chunk.received < chunk.end) throw this.#short(chunk.received);
  }

  /** What is here already is passed over. */
  async #inOneStream(): Promise<void> {
    const { signal } = this.#closing;
    const { size } = this.#blob;
    const retries = this.#retries();
    for (;;) {
      let at = 0;
      const take = (piece: Uint8Array) => {
        if (piece.length > size - at) {
          throw new RegistryError('RESPONSE_INVALID', `answered with more than the ${size} bytes it should have`);
        }
        const begin = at;
        at += piece.length;
        return this.#spread(piece, begin, retries);
      };
      try {
        using _lease = await this.#o.acquire({ signal });
        signal.throwIfAborted();
        await receiveBody(await this.#o.source.readAll({ signal }), take, signal);
        if (at < size) throw this.#short(at);
        return;
      } catch (cause) {
        if (cause instanceof UnpackError) throw cause;
        await this.#failed(retries, cause, at, signal);
      }
    }
  }

  /** Gives each chunk its part of a piece. Returns when to go on, if not at once. */
  #spread(piece: Uint8Array, begin: number, retries: TransferRetries): Promise<void> | undefined {
    const end = begin + piece.length;
    const pauses: Promise<void>[] = [];
    for (let at = begin; at < end; ) {
      const index = Math.floor(at / this.#blob.chunkSize);
      const next = Math.min(end, (index + 1) * this.#blob.chunkSize);
      if (!this.#blob.isPresent(index)) {
        const chunk = this.#blob.writer(index);
        const from = Math.max(at, chunk.received);
        const pause = from < next ? chunk.push(piece.subarray(from - begin, next - begin)) : undefined;
        if (from < next) {
          retries.progressed();
          this.#blob.grew(index);
        }
        if (chunk.received === chunk.end && next === chunk.end) pauses.push(this.#blob.seal(index));
        else if (pause !== undefined) pauses.push(pause);
      }
      at = next;
    }
    return pauses.length === 0 ? undefined : Promise.all(pauses).then(() => {});
  }

  async #failed(retries: TransferRetries, cause: unknown, at: number, signal: AbortSignal): Promise<void> {
    const { log, source } = this.#o;
    log.debug({ blob: source.name, at, error: errorMessage(cause) }, 'a transfer broke');
    const pause = retries.failed(cause, signal).finally(() => this.#pausing.delete(pause));
    this.#pausing.add(pause);
    await pause;
  }

  #retries(): TransferRetries {
    return new TransferRetries(this.#o.source.name, { timer: this.#o.timer });
  }

  #short(end: number): LayerError {
    const { source, descriptor } = this.#o;
    return new LayerError(
      'ERR_LAYER_SHORT',
      `${source.name} ends at byte ${end}, but the manifest says ${descriptor.size}`,
    );
  }
}
