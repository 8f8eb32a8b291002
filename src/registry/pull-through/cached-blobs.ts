import type { Descriptor } from '../../oci/descriptor.ts';
import type { Digest } from '../../oci/digest.ts';
import { OnceMap } from '../../util/once-map.ts';
import { untilAborted } from '../../util/until-aborted.ts';
import { hasCode } from '../errors.ts';
import type { BlobReader, CallOptions, Registry } from '../interface.ts';
import { BlobDownload } from './blob-download.ts';
import type { CacheStore } from './cache-store.ts';
import { CallScope, scopedReader } from '../streams/call-scope.ts';
import { verifiedChunks } from '../streams/verified-chunks.ts';

export interface CachedBlobsOptions {
  readonly upstream: Registry;
  readonly cache: CacheStore;
  readonly bufferBytes: number;
  readonly finishDownloads: boolean;
}

/** The blobs of a cache. One download per blob and repository at a time: who may read another repository is for upstream to say. */
export class CachedBlobs {
  readonly #options: CachedBlobsOptions;
  readonly #downloads = new Map<string, BlobDownload>();
  readonly #resolving = new OnceMap<string, Descriptor>();
  /** Why there are no more downloads. */
  #closed: DOMException | undefined;

  constructor(options: CachedBlobsOptions) {
    this.#options = options;
  }

  /** Gives up the downloads under way and those that are asked for later. */
  close(): void {
    this.#closed ??= new DOMException('the cache is closed', 'AbortError');
    for (const download of this.#downloads.values()) download.abandon(this.#closed);
  }

  async resolve(repository: string, digest: Digest, options: CallOptions): Promise<Descriptor> {
    const { upstream, cache } = this.#options;
    const { signal } = options;
    signal?.throwIfAborted();
    const stored = await cache.find((store) => store.resolveBlob(repository, digest, options), signal);
    if (stored !== undefined) return stored;
    const key = keyOf(repository, digest);
    const download = this.#running(key);
    if (download !== undefined) {
      const leave = download.join();
      return await untilAborted(download.opened, signal).finally(leave);
    }
    return await this.#resolving.run(key, (any) => upstream.resolveBlob(repository, digest, { signal: any }), options);
  }

  /** Never the whole blob for the sake of a range. */
  async range(
    repository: string,
    digest: Digest,
    start: number,
    end: number | undefined,
    options: CallOptions,
  ): Promise<BlobReader> {
    const { upstream, cache } = this.#options;
    options.signal?.throwIfAborted();
    const stored = await cache.find(
      (store) => store.getBlobRange(repository, digest, start, end, options),
      options.signal,
    );
    return stored ?? (await upstream.getBlobRange(repository, digest, start, end, options));
  }

  async get(repository: string, digest: Digest, options: CallOptions): Promise<BlobReader> {
    const { cache } = this.#options;
    options.signal?.throwIfAborted();
    const stored = await cache.find((store) => store.getBlob(repository, digest, options), options.signal);
    if (stored !== undefined) return this.#dropDamaged(repository, stored);
    const download = this.#running(keyOf(repository, digest)) ?? this.#start(repository, digest);
    const scope = new CallScope(options.signal);
    scope.onEnd(download.join());
    try {
      const descriptor = await untilAborted(download.opened, scope.signal);
      const chunks = this.#chunks(download, repository, descriptor, scope.signal);
      return scopedReader(descriptor, verifiedChunks(chunks, descriptor), scope);
    } catch (error) {
      scope.end();
      throw error;
    }
  }

  async *#chunks(
    download: BlobDownload,
    repository: string,
    { digest, size }: Descriptor,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array> {
    let position = 0;
    for await (const piece of download.follow(signal)) {
      position += piece.byteLength;
      yield piece;
    }
    if (position === size) return;
    const end = await untilAborted(download.ended, signal);
    const { upstream, cache } = this.#options;
    const rest = (registry: Registry) => registry.getBlobRange(repository, digest, position, undefined, { signal });
    const stored = end === 'stored' ? await cache.find(rest, signal) : undefined;
    const reader = stored ?? (await rest(upstream));
    try {
      yield* reader.body as AsyncIterable<Uint8Array>;
    } finally {
      reader.close();
    }
  }

  #running(key: string): BlobDownload | undefined {
    const download = this.#downloads.get(key);
    return download?.aborted === true ? undefined : download;
  }

  #start(repository: string, digest: Digest): BlobDownload {
    if (this.#closed !== undefined) throw this.#closed;
    const { upstream, cache, bufferBytes, finishDownloads } = this.#options;
    const key = keyOf(repository, digest);
    const download = new BlobDownload({ upstream, cache, repository, digest, bufferBytes, finish: finishDownloads });
    this.#downloads.set(key, download);
    const ended = () => {
      if (this.#downloads.get(key) === download) this.#downloads.delete(key);
    };
    download.ended.then(ended, ended);
    return download;
  }

  /** A stored blob that turns out to be damaged is taken out, so that the next one who asks gets it from upstream. */
  #dropDamaged(repository: string, reader: BlobReader): BlobReader {
    const { cache } = this.#options;
    reader.body.once('error', (error) => {
      if (!hasCode(error, 'DIGEST_INVALID', 'SIZE_INVALID')) return;
      cache.failed('read', error);
      void cache.follow((store) => store.deleteBlob(repository, reader.descriptor.digest));
    });
    return reader;
  }
}

function keyOf(repository: string, digest: Digest): string {
  return `${repository}@${digest}`;
}
