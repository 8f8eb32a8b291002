// The unpacker of one node: its leases and jobs, and what those who ask share.
import { setMaxListeners } from 'node:events';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { LayerBuild } from '../index/layer-build.ts';
import { errorMessage } from '../layer/errors.ts';
import type { LayerStore } from '../layer/layer-store.ts';
import type { Logger } from '../observe/log.ts';
import type { ProgressSink } from '../observe/progress.ts';
import { digestAlgorithm } from '../oci/digest.ts';
import { layerType } from '../oci/media-type.ts';
import type { State } from '../state/state.ts';
import type { UnpackJobForm } from '../state/unpack-jobs.ts';
import { OnceMap } from '../util/once-map.ts';
import { removeTree } from '../util/remove-tree.ts';
import type { BlobFeed } from './blob-feed.ts';
import { checkSpace } from './check-space.ts';
import { CompressedStore } from './compressed-store.ts';
import { UnpackError } from './errors.ts';
import { findBlob, progressName } from './find-blob.ts';
import { JobBook } from './job-book.ts';
import type { JobHandle } from './job-handle.ts';
import { LeasePool } from './leases.ts';
import { passLayer } from './pass-layer.ts';
import { ReadyTrees } from './ready-trees.ts';
import { runJob, treeIn } from './run-job.ts';
import type { JobParts } from './run-job.ts';
import { keepIndex, settleJob } from './settle-job.ts';
import { Settling } from './settling.ts';
import { unpackImage } from './unpack-image.ts';
import type { PassOne } from './unpack-image.ts';
import type { UnpackSettings } from './unpack-settings.ts';
import type {
  LayerToUnpack,
  UnpackedTree,
  Unpacker,
  UnpackImageRequest,
  UnpackLayerRequest,
  UnpackLimits,
  UnpackOptions,
  UnpackStatus,
} from './unpacker.ts';

export interface NodeUnpackerOptions {
  readonly root: string;
  readonly state: State;
  readonly store: LayerStore;
  /** The boot of this machine. */
  readonly boot: string;
  /** Asked whenever a job begins. */
  readonly settings: () => UnpackSettings;
  readonly limits: UnpackLimits;
  readonly log: Logger;
}

type JobRequest = LayerToUnpack & Pick<UnpackLayerRequest, 'image' | 'onBuilt' | 'onProgress'>;

type JobWork = (handle: JobHandle, signal: AbortSignal) => Promise<void>;

/** Bytes that a layer takes for each of its blob's while it is unpacked, as long as nobody knows: blob, stream and tree. */
const guessedRatio = 6;

export class NodeUnpacker implements Unpacker {
  readonly #o: NodeUnpackerOptions;
  readonly #book: JobBook;
  readonly #compressed: CompressedStore;
  readonly #downloads: LeasePool;
  readonly #unpacks: LeasePool;
  readonly #flights = new OnceMap<string, void>();
  readonly #ready = new ReadyTrees();
  readonly #settling: Settling;
  readonly #ending = new AbortController();
  /** From before they have a row until nothing of them runs any more. */
  readonly #jobs = new Set<Promise<void>>();
  /** Jobs that run, and the bytes that each may still write. */
  readonly #running = new Map<number, number>();

  constructor(options: NodeUnpackerOptions) {
    const { root, state, boot, limits, log } = options;
    this.#o = options;
    this.#book = new JobBook({ root, table: state.unpackJobs, boot, log });
    this.#compressed = new CompressedStore(root);
    this.#downloads = new LeasePool(limits.downloads);
    this.#unpacks = new LeasePool(limits.unpacks);
    this.#settling = new Settling(log);
    setMaxListeners(0, this.#ending.signal);
  }

  async unpackLayer(request: UnpackLayerRequest, { signal }: UnpackOptions): Promise<UnpackedTree> {
    const { descriptor, diffId, form } = request;
    checkSupported(request);
    const key = `${descriptor.digest} ${diffId} ${form}`;
    for (;;) {
      signal.throwIfAborted();
      const tree = this.#ready.find(key);
      if (tree !== undefined) return tree;
      await this.#flights.run(key, (shared) => this.#unpack(key, request, shared), { signal });
    }
  }

  async unpackImage(request: UnpackImageRequest, { signal }: UnpackOptions): Promise<void> {
    request.layers.forEach(checkSupported);
    const { image, onProgress } = request;
    const pass: PassOne = (layer, work) => this.#passOne({ ...layer, image, onProgress }, work);
    await unpackImage(request, pass, { signal });
  }

  status(): UnpackStatus {
    return { downloads: this.#downloads.status(), unpacks: this.#unpacks.status(), jobs: this.#book.list() };
  }

  setLimits({ downloads, unpacks }: UnpackLimits): void {
    this.#downloads.resize(downloads);
    this.#unpacks.resize(unpacks);
  }

  /** Goes on with what processes that ended left behind trees that are in use. */
  recover(): void {
    for (const handle of this.#book.recover()) {
      const { layer: digest, diffId, size, mediaType } = handle.row();
      const job = { folder: handle.folder, descriptor: { digest, size, mediaType }, diffId, local: undefined };
      this.#settling.add(digest, async (signal) => {
        // After a power cut nobody knows how much of it was written.
        if (!handle.ofThisBoot) await rm(join(handle.folder, 'data'), { force: true });
        await settleJob(this.#parts(), job, { signal });
        await handle.remove();
      });
    }
  }

  async collect(): Promise<void> {
    const { log, settings } = this.#o;
    try {
      const { expired, removed, orphans } = await this.#book.collect({
        now: Date.now(),
        expiryMs: settings().expiryMs,
        inUse: (job) => this.#running.has(job),
      });
      if (expired.length + removed.length + orphans > 0)
        log.info({ expired, removed, orphans }, 'unpack jobs collected');
    } catch (error) {
      log.warn({ error: errorMessage(error) }, 'cannot collect unpack jobs');
    }
  }

  async idle(): Promise<void> {
    await this.#settling.idle();
  }

  async close(): Promise<void> {
    this.#ending.abort(new UnpackError('ERR_UNPACK_CANCELLED', 'the unpacker is closed'));
    await this.#settling.close();
    while (this.#jobs.size > 0) await Promise.allSettled(this.#jobs);
    this.#book.close();
  }

  #parts(): JobParts {
    const { store, state, log, settings } = this.#o;
    const now = settings();
    return {
      store,
      layers: state.layers,
      settings: now,
      log,
      compressed: this.#compressed,
      acquire: (image, options) => this.#downloads.acquire(image, options),
      chunkSize: now.chunkSize,
    };
  }

  /** The tree is among those that are ready when it resolves. */
  async #unpack(key: string, request: UnpackLayerRequest, shared: AbortSignal): Promise<void> {
    await this.#inJob(request, request.form, shared, async (handle, signal) => {
      let behind: (signal: AbortSignal) => Promise<void> = async () => {};
      if (handle.state !== 'done') {
        using _lease = await this.#unpacks.acquire(request.image, { signal });
        const counted = { ...request, onProgress: counting(handle, request.onProgress) };
        const { implied, build } = await runJob(this.#parts(), counted, handle.folder, { signal });
        handle.finished(implied);
        allHere(counted);
        if (build !== undefined) behind = once((ending) => this.#built(request, build, handle, ending));
        // Not before somebody has taken the tree, but without waiting for him.
        this.#settling.add(request.descriptor.digest, behind);
      }
      this.#ready.add(key, { handle, settle: () => this.#settle(request, handle, behind) });
    });
  }

  /** One layer of an image that goes to a directory of somebody else's. */
  async #passOne(request: JobRequest, { sink, whole, signal: outer }: Parameters<PassOne>[1]): Promise<void> {
    await this.#inJob(request, 'image', outer, async (handle, signal) => {
      const parts = this.#parts();
      const lease = await this.#unpacks.acquire(request.image, { signal });
      let feed: Promise<BlobFeed> | undefined;
      const counted = { ...request, onProgress: counting(handle, request.onProgress) };
      let behind: (signal: AbortSignal) => Promise<void> = async () => {};
      try {
        await passLayer(parts, {
          ...request,
          folder: handle.folder,
          blob: () => (feed ??= findBlob(parts, counted, handle.folder, { signal })),
          sink,
          whole: async (build) => {
            lease();
            if (build !== undefined) behind = once((ending) => this.#built(request, build, handle, ending));
            await whole();
          },
          signal,
        });
      } finally {
        lease();
        await feed?.then(
          (opened) => opened.close(),
          () => {},
        );
      }
      handle.finished([]);
      allHere(counted);
      handle.claim(() => {});
      this.#settle(request, handle, behind);
    });
  }

  /** Begins or resumes a job, and says how it ended when it did not end well. */
  async #inJob(request: JobRequest, form: UnpackJobForm, outer: AbortSignal, work: JobWork): Promise<void> {
    this.#ending.signal.throwIfAborted();
    const running = this.#runJob(request, form, outer, work);
    this.#jobs.add(running);
    try {
      await running;
    } finally {
      this.#jobs.delete(running);
    }
  }

  async #runJob(
    { descriptor, diffId, image }: JobRequest,
    form: UnpackJobForm,
    outer: AbortSignal,
    work: JobWork,
  ): Promise<void> {
    const { expiryMs } = this.#o.settings();
    const expiry = AbortSignal.timeout(expiryMs);
    const signal = AbortSignal.any([outer, this.#ending.signal, expiry]);
    setMaxListeners(0, signal);
    const { digest: layer, size, mediaType } = descriptor;
    const handle = await this.#book.begin({ layer, diffId, form, size, image, mediaType }, { signal });
    try {
      if (handle.state !== 'done') await this.#claimSpace(handle, size);
      await work(handle, signal);
    } catch (error) {
      if (handle.state !== 'in_progress') throw error;
      if (!this.#ending.signal.aborted) await removeUnfinished(handle.folder);
      if (!signal.aborted) handle.fail(error);
      else if (this.#ending.signal.aborted) handle.cancel('peel stopped');
      else if (outer.aborted) handle.cancel('nobody wants the layer any more');
      else {
        handle.expire();
        throw new UnpackError('ERR_UNPACK_EXPIRED', `layer ${layer} of ${image} was not unpacked in ${expiryMs} ms`);
      }
      throw error;
    } finally {
      this.#running.delete(handle.job);
    }
  }

  async #claimSpace({ job }: JobHandle, size: number): Promise<void> {
    const { root, settings } = this.#o;
    this.#running.set(job, size * guessedRatio);
    const needed = [...this.#running.values()].reduce((sum, bytes) => sum + bytes, 0);
    await checkSpace({ root, needed, reserve: settings().reserve });
  }

  async #built({ onBuilt }: JobRequest, build: LayerBuild, handle: JobHandle, signal: AbortSignal): Promise<void> {
    if (this.#o.settings().fillCache) await keepIndex(build, handle.folder, { signal });
    await onBuilt?.(build, { signal });
  }

  #settle(request: JobRequest, handle: JobHandle, behind: (signal: AbortSignal) => Promise<void>): void {
    const { descriptor, diffId, local } = request;
    this.#settling.add(descriptor.digest, async (signal) => {
      await behind(signal).catch((error: unknown) => {
        signal.throwIfAborted();
        this.#o.log.warn({ layer: descriptor.digest, error: errorMessage(error) }, 'no index is kept of the layer');
      });
      await settleJob(this.#parts(), { folder: handle.folder, descriptor, diffId, local }, { signal });
      await handle.remove();
    });
  }
}

/** What is made of the blob is made anew by the next who begins the job, and takes most of the room. What stays is removed with the job. */
async function removeUnfinished(folder: string): Promise<void> {
  await rm(join(folder, 'data'), { force: true }).catch(() => undefined);
  await removeTree(treeIn(folder)).catch(() => undefined);
}

/** Errors: ERR_UNPACK_UNSUPPORTED. */
function checkSupported({ descriptor, diffId }: Pick<LayerToUnpack, 'descriptor' | 'diffId'>): void {
  const { digest, mediaType } = descriptor;
  if (layerType(mediaType) === undefined)
    throw new UnpackError(
      'ERR_UNPACK_UNSUPPORTED',
      `layer ${digest} has the media type ${mediaType}, which is no layer`,
    );
  for (const each of [digest, diffId])
    if (digestAlgorithm(each) !== 'sha256')
      throw new UnpackError('ERR_UNPACK_UNSUPPORTED', `layer ${digest}: only sha256 is implemented, not ${each}`);
}

function counting(handle: JobHandle, sink: ProgressSink | undefined): ProgressSink {
  return (event) => {
    handle.received = event.done;
    sink?.(event);
  };
}

/** Also of a layer that was on the node already. */
function allHere({ descriptor: { digest, size }, onProgress }: JobRequest): void {
  onProgress?.({ what: progressName(digest), done: size, total: size });
}

function once(work: (signal: AbortSignal) => Promise<void>): (signal: AbortSignal) => Promise<void> {
  let running: Promise<void> | undefined;
  return (signal) => (running ??= work(signal));
}
