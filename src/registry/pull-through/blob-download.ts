import type { Descriptor } from '../../oci/descriptor.ts';
import type { Digest } from '../../oci/digest.ts';
import { Deferred } from '../../util/deferred.ts';
import { untilAborted } from '../../util/until-aborted.ts';
import { hasCode } from '../errors.ts';
import type { BlobReader, BlobWriter, Registry } from '../interface.ts';
import { pushAsUpload } from '../store/push-as-upload.ts';
import type { CacheStore } from './cache-store.ts';
import { RecentBytes } from './recent-bytes.ts';

/** The most bytes read back for a reader at a time. */
const pieceBytes = 1024 * 1024;

export interface DownloadOptions {
  readonly upstream: Registry;
  readonly cache: CacheStore;
  readonly repository: string;
  readonly digest: Digest;
  /** Memory for the readers when the store gives no upload back before it is complete. */
  readonly bufferBytes: number;
  /** Whether it goes on when every reader has left. */
  readonly finish: boolean;
}

export type DownloadEnd = 'stored' | 'not stored';

/** One blob on its way from upstream into the store, as fast as these two allow, whatever the readers that follow it do. */
export class BlobDownload {
  readonly #options: DownloadOptions;
  readonly #abort = new AbortController();
  readonly #opened = new Deferred<Descriptor>();
  readonly #ended = new Deferred<DownloadEnd>();
  #size = Number.POSITIVE_INFINITY;
  #written = 0;
  #upload: BlobWriter | undefined;
  /** Instead of reading the upload back. */
  #recent: RecentBytes | undefined;
  #changed = new Deferred<void>();
  #waiting = 0;

  constructor(options: DownloadOptions) {
    this.#options = options;
    // Both may fail when nobody waits for them.
    this.#opened.promise.catch(() => {});
    this.#ended.promise.catch(() => {});
    void options.cache.writing(this.#run());
  }

  /** When the size is known. Errors: those of upstream. */
  get opened(): Promise<Descriptor> {
    return this.#opened.promise;
  }

  /** Errors: those of upstream; DIGEST_INVALID and SIZE_INVALID when it sent something else. */
  get ended(): Promise<DownloadEnd> {
    return this.#ended.promise;
  }

  get aborted(): boolean {
    return this.#abort.signal.aborted;
  }

  /** Gives it up, unless all of it is written: what is left then is the store's work. */
  abandon(reason: unknown): void {
    if (this.#written < this.#size) this.#abort.abort(reason);
  }

  /** Counts one who waits until the returned function is called, once. */
  join(): () => void {
    this.#waiting += 1;
    return () => {
      this.#waiting -= 1;
      if (this.#waiting === 0 && !this.#options.finish)
        this.abandon(new DOMException('nobody waits for the download', 'AbortError'));
    };
  }

  /**
   * The bytes of the blob from its start on, as they are written, unverified; to be read once it is opened. Ends early where they cannot be had
   * from the download: `ended` tells where the rest is. Errors: the signal's reason.
   */
  async *follow(signal: AbortSignal): AsyncGenerator<Uint8Array> {
    for (let position = 0; position < this.#size; ) {
      while (position === this.#written && !this.#ended.settled) await untilAborted(this.#changed.promise, signal);
      const piece = this.#ended.settled ? undefined : await this.#readBack(position, signal);
      if (piece === undefined) return;
      position += piece.byteLength;
      yield piece;
    }
  }

  async #readBack(position: number, signal: AbortSignal): Promise<Uint8Array | undefined> {
    const upload = this.#upload;
    if (upload?.read === undefined) return this.#recent?.at(position);
    try {
      return await upload.read(position, Math.min(position + pieceBytes, this.#written), { signal });
    } catch (error) {
      signal.throwIfAborted();
      // It may have been finished at this very moment.
      if (!hasCode(error, 'BLOB_UPLOAD_INVALID')) this.#options.cache.failed('read', error);
      return undefined;
    }
  }

  async #run(): Promise<void> {
    const { upstream, cache, repository, digest } = this.#options;
    const { signal } = this.#abort;
    try {
      // A download that ended after the caller had looked into the store is not made again.
      const known = await cache.find((store) => store.resolveBlob(repository, digest, { signal }), signal);
      if (known !== undefined) {
        this.#open(known);
        this.#ended.resolve('stored');
        return;
      }
      const reader = await upstream.getBlob(repository, digest, { signal });
      try {
        this.#open(reader.descriptor);
        this.#ended.resolve(await this.#store(reader));
      } finally {
        reader.close();
      }
    } catch (error) {
      this.#opened.reject(error);
      this.#ended.reject(error);
    } finally {
      // A reader that stays longer need not hold these.
      this.#upload = undefined;
      this.#recent = undefined;
      this.#wake();
    }
  }

  #open(descriptor: Descriptor): void {
    this.#size = descriptor.size;
    this.#opened.resolve(descriptor);
  }

  async #store({ descriptor, body }: BlobReader): Promise<DownloadEnd> {
    const { cache, repository, bufferBytes } = this.#options;
    const { signal } = this.#abort;
    // It may fail while the store is not reading it.
    body.on('error', () => {});
    let failure: { readonly error: unknown } | undefined;
    const wrote = (chunk: Uint8Array) => this.#wrote(chunk);
    const received = async function* () {
      try {
        for await (const chunk of body as AsyncIterable<Uint8Array>) {
          yield chunk;
          // Whoever asks for the next chunk has stored this one.
          wrote(chunk);
        }
      } catch (error) {
        failure = { error };
        throw error;
      }
    };
    try {
      const upload = await cache.registry.pushBlobChunked(repository, undefined, { signal });
      this.#upload = upload;
      if (upload.read === undefined) this.#recent = new RecentBytes(bufferBytes);
      await pushAsUpload(upload, descriptor, received, { signal });
      cache.worked('write');
      return 'stored';
    } catch (error) {
      if (failure !== undefined) throw failure.error;
      signal.throwIfAborted();
      if (hasCode(error, 'DIGEST_INVALID', 'SIZE_INVALID')) throw error;
      cache.failed('write', error);
      return 'not stored';
    }
  }

  #wrote(chunk: Uint8Array): void {
    this.#written += chunk.byteLength;
    this.#recent?.add(chunk);
    this.#wake();
  }

  #wake(): void {
    const changed = this.#changed;
    this.#changed = new Deferred();
    changed.resolve();
  }
}
