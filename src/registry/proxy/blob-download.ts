import type { Descriptor } from '../../oci/descriptor.ts';
import type { Digest } from '../../oci/digest.ts';
import { Deferred } from '../../util/deferred.ts';
import { PulledStream } from '../client/pulled-stream.ts';
import { RegistryError, hasCode } from '../errors.ts';
import type { BlobReader, Registry } from '../interface.ts';
import type { CacheStore } from './cache-store.ts';
import { LiveBuffer } from './live-buffer.ts';

export interface DownloadOptions {
  readonly upstream: Registry;
  readonly cache: CacheStore;
  readonly repository: string;
  readonly digest: Digest;
  /** Of the live buffer. */
  readonly bufferBytes: number;
  /** Whether it goes on when every reader has left. */
  readonly finish: boolean;
}

export type DownloadEnd = 'stored' | 'not stored';

/** One blob on its way from upstream into the store, as fast as these two allow, whatever its readers do. */
export class BlobDownload {
  /** For the reader that began it. */
  readonly live: LiveBuffer;
  readonly #options: DownloadOptions;
  readonly #abort = new AbortController();
  readonly #opened = new Deferred<Descriptor>();
  readonly #ended = new Deferred<DownloadEnd>();
  #waiting = 0;
  /** Upstream is done; what is left is the store's work. */
  #complete = false;

  constructor(options: DownloadOptions) {
    this.#options = options;
    this.live = new LiveBuffer(options.bufferBytes);
    // Both may fail when nobody waits for them.
    this.#opened.promise.catch(() => {});
    this.#ended.promise.catch(() => {});
    void this.#run();
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

  abort(reason: unknown): void {
    this.#abort.abort(reason);
  }

  /** Counts one who waits until the returned function is called, once. */
  join(): () => void {
    this.#waiting += 1;
    return () => {
      this.#waiting -= 1;
      if (this.#waiting === 0 && !this.#options.finish && !this.#complete)
        this.abort(new DOMException('nobody waits for the download', 'AbortError'));
    };
  }

  async #run(): Promise<void> {
    const { upstream, cache, repository, digest } = this.#options;
    const { signal } = this.#abort;
    try {
      // A download that ended after the caller had looked into the store is not made again.
      const known = await cache.find((store) => store.resolveBlob(repository, digest, { signal }), signal);
      if (known !== undefined) {
        this.#opened.resolve(known);
        this.#end('stored');
        return;
      }
      const reader = await upstream.getBlob(repository, digest, { signal });
      try {
        this.#opened.resolve(reader.descriptor);
        await this.#fill(reader);
      } finally {
        reader.close();
      }
    } catch (error) {
      this.live.fail(error);
      this.#opened.reject(error);
      this.#ended.reject(error);
    }
  }

  async #fill({ descriptor, body }: BlobReader): Promise<void> {
    const { cache, repository } = this.#options;
    const { signal } = this.#abort;
    const chunks = body.iterator({ destroyOnReturn: false }) as AsyncIterator<Uint8Array>;
    // It may fail while the store is not reading it.
    body.on('error', () => {});
    let storing = true;
    let failure: { readonly error: unknown } | undefined;
    const next = async () => {
      try {
        const step = await chunks.next();
        if (step.done === true) {
          this.#complete = true;
          this.live.finish('complete');
        } else if (storing) this.live.offer(step.value);
        else this.live.add(step.value);
        return step;
      } catch (error) {
        failure = { error };
        throw error;
      }
    };
    try {
      const source = once(() => new PulledStream({ [Symbol.asyncIterator]: () => ({ next }) }, () => {}));
      await cache.registry.pushBlob(repository, descriptor, source, { signal });
      cache.worked('write');
      this.#end('stored');
      return;
    } catch (error) {
      if (failure !== undefined) throw failure.error;
      signal.throwIfAborted();
      if (hasCode(error, 'DIGEST_INVALID', 'SIZE_INVALID')) throw error;
      cache.failed('write', error);
    }
    // From here on it is the download of the first reader alone; the others go upstream for themselves.
    storing = false;
    this.#ended.resolve('not stored');
    while (await this.live.room(signal)) await next();
  }

  #end(end: DownloadEnd): void {
    // Nothing came through here when the store had the blob already.
    this.live.finish('behind');
    this.#ended.resolve(end);
  }
}

/** A download cannot be read from its start again. */
function once<T>(make: () => T): () => T {
  let made = false;
  return () => {
    if (made) throw new RegistryError('UNKNOWN', 'the store asked twice for the bytes of one download');
    made = true;
    return make();
  };
}
