// All layers of a node: opens them, making what is missing (an index file, or the whole layer), and removes them.
import { rm } from 'node:fs/promises';
import { openNodeIndexNow } from '../index/node-index.ts';
import type { NodeIndex } from '../index/node-index.ts';
import type { IndexProvenance } from '../index/node-index-format.ts';
import { LayerCache } from '../native/layer-cache.ts';
import type { Logger } from '../observe/log.ts';
import type { ProgressSink } from '../observe/progress.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import type { LayerRow, LayerTable } from '../state/layers.ts';
import type { Semaphore } from '../util/semaphore.ts';
import type { BlobSource } from './blob-source.ts';
import { diskError } from './disk-error.ts';
import { LayerError, errorCode, errorMessage } from './errors.ts';
import type { Evictable } from './evictable.ts';
import { fileIdentityNow } from './file-identity.ts';
import type { IndexJobs } from './index-job.ts';
import type { WholeLayer } from './keep-whole.ts';
import type { LayerDirectories, LayerPaths } from './layer-paths.ts';
import { preparedRow, rowOf } from './layer-rows.ts';
import { Layer } from './layer.ts';
import { LinkTable } from './link-table.ts';
import type { TreeWish } from './made-tree.ts';
import { tryBuildLock, withBuildLock } from './build-lock.ts';
import { withCache } from './with-cache.ts';

interface RemoteIndexHead {
  /** Of the index manifest. */
  readonly digest: Digest;
  readonly source: string;
  /** The bytes of the zTOC or the table, verified. Errors: RegistryError, ImageError. */
  readonly load: (options: { signal: AbortSignal | undefined }) => Promise<Uint8Array>;
}

export interface RemoteZtoc extends RemoteIndexHead {
  readonly format: 'soci-v1' | 'soci-v2';
  readonly ztoc: Descriptor;
}

export interface RemotePeelIndex extends RemoteIndexHead {
  readonly format: 'peel';
  readonly table: Descriptor;
  /** Undefined for a layer that needs no windows. */
  readonly windows: Descriptor | undefined;
  /** Reference of the repository that it was found in. */
  readonly repository?: string | undefined;
  /**
   * The windows blob where this node has it as a whole; undefined when it is in the registry. Errors: ImageError when it is nowhere,
   * RegistryError.
   */
  readonly findWindows: (options: { signal: AbortSignal | undefined }) => Promise<Uint8Array | undefined>;
}

/** A seekable index that an image offers for one of its layers. */
export type RemoteIndex = RemoteZtoc | RemotePeelIndex;

export interface OfferedIndex {
  readonly index: RemoteIndex | undefined;
  /** Why there is none, as half a sentence. */
  readonly reason: string;
}

export interface OpenLayerRequest {
  readonly descriptor: Descriptor;
  readonly diffId: Digest;
  readonly source: BlobSource;
  /**
   * Asked only when the node has no index of the layer, with 0, and with the next number for as long as what it offered cannot be used.
   * Errors: ImageError.
   */
  readonly findIndex: (attempt: number) => Promise<OfferedIndex>;
  /** An index that is found and cannot be used is an error, not a warning. */
  readonly indexRequired?: boolean | undefined;
  /** Whether the layer may be opened by an index that the node has of it; without this by any. */
  readonly accepts?: ((index: Pick<IndexProvenance, 'format' | 'indexDigest'>) => boolean) | undefined;
  /** Default: no tree is made. */
  readonly tree?: TreeWish | undefined;
  /** Requests of this image at once. */
  readonly slots: Semaphore;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ProgressSink | undefined;
  /** Default the store's. */
  readonly log?: Logger | undefined;
  /** Something a person should know: an index that cannot be used. */
  readonly onWarning: (message: string) => void;
}

export interface LayerStoreOptions {
  readonly directories: LayerDirectories;
  readonly table: LayerTable;
  /** Requests of this process at once, over all images. */
  readonly slots: Semaphore;
  /** To the registries; default its own ones. */
  readonly links?: LinkTable | undefined;
  readonly log: Logger;
  readonly readDeadlineMs: number;
  /** Who reads the indexes that images offer; default: this thread. */
  readonly jobs?: IndexJobs | undefined;
  /** Called with the number of spans that a reader wants and that are not here. */
  readonly onMiss?: ((spans: number) => void) | undefined;
}

/** Others may remove a layer between its making and its opening, so it is made again, but not for ever. */
const maxRounds = 20;

export class LayerStore {
  /** For layers that are opened from now on. */
  readDeadlineMs: number;
  readonly #o: LayerStoreOptions;
  readonly #links: LinkTable;

  constructor(options: LayerStoreOptions) {
    this.#o = options;
    this.#links = options.links ?? new LinkTable();
    this.readDeadlineMs = options.readDeadlineMs;
  }

  paths(layer: Digest): LayerPaths {
    return this.#o.directories.paths(layer);
  }

  /**
   * The layer, ready to be read: lazily where an index is at hand, else whole on the node when this returns.
   * Errors: LayerError, and whatever the source throws; the signal's reason.
   */
  async open(request: OpenLayerRequest): Promise<Layer> {
    const { digest } = request.descriptor;
    const paths = this.paths(digest);
    const distrusted = await this.#forgetSuspect(digest);
    await this.#forgetUnwanted(request, paths);
    for (let round = 0; round < maxRounds; round += 1) {
      request.signal?.throwIfAborted();
      const layer = await this.#openPrepared(request, paths);
      if (layer !== undefined) return layer;
      await withBuildLock(paths, { signal: request.signal }, () => this.#prepare(request, paths, distrusted));
    }
    throw new LayerError('ERR_LAYER_BUSY', `layer ${digest} is being removed again and again by somebody else`);
  }

  /** The layer where the node has made all it needs to serve it; undefined otherwise, and nothing is fetched. Errors: as `open`. */
  openIfReady(request: OpenLayerRequest): Promise<Layer | undefined> {
    return this.#openPrepared(request, this.paths(request.descriptor.digest));
  }

  /**
   * Takes over a whole layer that was decoded elsewhere. False, and nothing is taken, when the node has an index of it already or somebody is
   * making one. Errors: ERR_LAYER_BUSY, IndexError, errno codes.
   */
  async keepWhole(layer: WholeLayer, options: { readonly signal?: AbortSignal | undefined } = {}): Promise<boolean> {
    const { descriptor, reason } = layer;
    const paths = this.paths(descriptor.digest);
    const kept = await tryBuildLock(paths, async () => {
      if (fileIdentityNow(paths.index) !== undefined) return false;
      const { keepWhole } = await import('./keep-whole.ts');
      await keepWhole(paths, layer, { signal: options.signal });
      this.#o.table.put(preparedRow(layer, { format: 'node', source: reason }, reason));
      return true;
    });
    return kept === true;
  }

  /** Removes the layer's files. False when somebody uses or makes it. */
  async remove(layer: Digest): Promise<boolean> {
    const paths = this.paths(layer);
    const removed = await tryBuildLock(paths, async () => {
      if (!(await LayerCache.tryRemove(paths.dir, paths.live))) return false;
      // Before somebody else makes the layer anew, whose row must stay.
      this.#o.table.delete(layer);
      return true;
    });
    return removed === true;
  }

  /** Runs `use` on the block cache of a layer, whoever serves it; undefined where there is none. Errors: as `withCache`. */
  withCache<T>(layer: Digest, use: (evictable: Evictable) => Promise<T> | T): Promise<T | undefined> {
    return withCache(layer, this.paths(layer), use);
  }

  /** Bytes that turned out wrong are not opened again: the layer is made anew from its blob, where nobody uses it. */
  async #forgetSuspect(digest: Digest): Promise<string | undefined> {
    const suspect = this.#o.table.get(digest)?.suspect;
    return suspect !== undefined && (await this.remove(digest)) ? suspect : undefined;
  }

  /** An index that this image is not to be opened by goes, with what was fetched by it, where nobody uses it. */
  async #forgetUnwanted(request: OpenLayerRequest, paths: LayerPaths): Promise<void> {
    const { accepts, descriptor } = request;
    const index = accepts === undefined ? undefined : await this.#openIndex(paths);
    if (index === undefined) return;
    await index.close();
    if (accepts?.(index.info) !== false || (await this.remove(descriptor.digest))) return;
    const { indexDigest, source } = index.info;
    request.onWarning(
      `layer ${descriptor.digest} is in use and stays as the index ${indexDigest ?? source} describes it: unmount its images first`,
    );
  }

  async #openPrepared(request: OpenLayerRequest, paths: LayerPaths): Promise<Layer | undefined> {
    const { table } = this.#o;
    const before = fileIdentityNow(paths.index);
    if (before === undefined) return undefined;
    const index = await this.#openIndex(paths);
    if (index === undefined) return undefined;
    let cache: LayerCache | undefined;
    try {
      cache = LayerCache.open({
        dir: paths.dir,
        livePath: paths.live,
        streamSize: index.spans.streamSize,
        // A cache has at least one span; that of an empty stream is empty.
        spanStarts: index.spans.count > 0 ? index.spans.streamStarts : new Float64Array(2),
        fingerprint: index.fingerprint,
      });
      // Between reading the index and holding the lock somebody may have removed the layer and made it anew.
      const changed = fileIdentityNow(paths.index) !== before;
      if (changed || !servable(index, cache)) {
        await cache.close();
        await index.close();
        if (!changed) await this.remove(request.descriptor.digest);
        return undefined;
      }
      const known = table.get(request.descriptor.digest);
      const row = rowOf(request, index, known?.reason);
      if (known?.streamSize !== row.streamSize) table.put(row);
      return this.#layer(request, paths, row, index, cache);
    } catch (error) {
      await cache?.close();
      await index.close();
      if (errorCode(error) === 'ENOENT') return undefined;
      throw diskError(error, paths);
    }
  }

  #layer(
    request: OpenLayerRequest,
    paths: LayerPaths,
    row: Omit<LayerRow, 'usedAt' | 'suspect'>,
    index: NodeIndex,
    cache: LayerCache,
  ): Layer {
    const { descriptor, diffId, source, slots } = request;
    const { table, log, onMiss } = this.#o;
    return new Layer({
      descriptor,
      diffId,
      paths,
      row,
      index,
      cache,
      source,
      imageSlots: slots,
      nodeSlots: this.#o.slots,
      links: this.#links,
      readDeadlineMs: this.readDeadlineMs,
      table,
      log: request.log ?? log,
      onMiss,
    });
  }

  /** Undefined when there is none, or a damaged one that could be cleared away. */
  async #openIndex(paths: LayerPaths): Promise<NodeIndex | undefined> {
    try {
      return openNodeIndexNow(paths.index);
    } catch (error) {
      const code = errorCode(error);
      if (code === 'ENOENT') return undefined;
      if (code === undefined || !code.startsWith('ERR_INDEX_') || code === 'ERR_INDEX_VERSION') throw error;
      this.#o.log.warn(
        { index: paths.index, error: errorMessage(error) },
        'index file is damaged, making the layer anew',
      );
      if (await tryBuildLock(paths, () => LayerCache.tryRemove(paths.dir, paths.live))) return undefined;
      throw new LayerError(
        'ERR_LAYER_INDEX',
        `${errorMessage(error)}, and the layer is in use: unmount its images first`,
        { cause: error },
      );
    }
  }

  async #jobs(): Promise<IndexJobs> {
    if (this.#o.jobs !== undefined) return this.#o.jobs;
    const { runIndexJob } = await import('./run-index-job.ts');
    return { run: (job) => runIndexJob(job) };
  }

  /** With the build lock held, and with code that a layer which is here needs nothing of: makes the index file, and the whole layer where there is no other way. */
  async #prepare(request: OpenLayerRequest, paths: LayerPaths, distrusted: string | undefined): Promise<void> {
    if (fileIdentityNow(paths.index) !== undefined) return;
    // What a process left that was killed while it downloaded the layer.
    await rm(paths.building, { force: true });
    // What one left that was killed before it had made the index file.
    await rm(paths.windows, { force: true });
    const { table, log, slots } = this.#o;
    const offered = await request.findIndex(0);
    let reason = distrusted === undefined ? offered.reason : `no trusted index: ${distrusted}`;
    if (offered.index !== undefined && distrusted === undefined) {
      const { prepareByIndex, contentName } = await import('./prepare-by-index.ts');
      const outcome = await prepareByIndex(request, { paths, jobs: await this.#jobs() }, offered).catch(
        (error: unknown) => {
          throw diskError(error, paths);
        },
      );
      if (outcome.used !== undefined) {
        const { format, digest, source } = outcome.used;
        table.put(preparedRow(request, { format, indexDigest: digest, source }, contentName(outcome.used)));
        return;
      }
      reason = outcome.reason;
    }
    try {
      const { prepareWhole } = await import('./prepare-whole.ts');
      await prepareWhole(request, paths, { slots: [request.slots, slots], log, reason });
      table.put(preparedRow(request, { format: 'node', source: reason }, reason));
    } catch (error) {
      request.signal?.throwIfAborted();
      throw diskError(error, paths);
    }
  }
}

/** A layer that has no spans to fetch is worth something only when it is whole. */
function servable(index: NodeIndex, cache: LayerCache): boolean {
  return index.info.decoder !== 'sequential' || cache.presentSpans === index.spans.count;
}
