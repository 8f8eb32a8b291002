// The unpacker of one node: what those who ask share, and what becomes of what was unpacked.
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import type { LayerBuild } from '../index/layer-build.ts';
import { errorMessage } from '../layer/errors.ts';
import type { LayerStore } from '../layer/layer-store.ts';
import type { Logger } from '../observe/log.ts';
import { digestAlgorithm } from '../oci/digest.ts';
import { layerType } from '../oci/media-type.ts';
import type { State } from '../state/state.ts';
import { KeyedLock } from '../util/keyed-lock.ts';
import { OnceMap } from '../util/once-map.ts';
import { CompressedStore } from './compressed-store.ts';
import { UnpackError } from './errors.ts';
import { findBlob, progressName } from './find-blob.ts';
import { JobBlob, removeBlob } from './job-blob.ts';
import { JobBook } from './job-book.ts';
import type { JobHandle } from './job-handle.ts';
import { JobRunner } from './job-runner.ts';
import type { JobRequest } from './job-runner.ts';
import { LeasePool } from './leases.ts';
import { passLayer } from './pass-layer.ts';
import { ReadyTrees } from './ready-trees.ts';
import { runJob } from './run-job.ts';
import type { JobParts } from './run-job.ts';
import { keepIndex, settleJob } from './settle-job.ts';
import { Settling } from './settling.ts';
import { Retries } from './unpack-failure.ts';
import type { Attempt } from './unpack-failure.ts';
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

/** What is done for a layer that nobody waits for any more. */
type Behind = (signal: AbortSignal) => Promise<void>;

const nothing: Behind = async () => {};

type LayerJob = JobRequest & Pick<UnpackLayerRequest, 'onBuilt'>;

export class NodeUnpacker implements Unpacker {
  readonly #o: NodeUnpackerOptions;
  readonly #book: JobBook;
  readonly #compressed: CompressedStore;
  readonly #downloads: LeasePool;
  readonly #unpacks: LeasePool;
  readonly #flights = new OnceMap<string, void>();
  /** One that was cancelled gives its job back before the next begins, which goes on with it. */
  readonly #turns = new KeyedLock<string>();
  readonly #ready = new ReadyTrees();
  readonly #settling: Settling;
  readonly #runner: JobRunner;

  constructor(options: NodeUnpackerOptions) {
    const { root, state, boot, settings, limits, log } = options;
    this.#o = options;
    this.#book = new JobBook({ root, table: state.unpackJobs, boot, log });
    this.#compressed = new CompressedStore(root);
    this.#downloads = new LeasePool(limits.downloads);
    this.#unpacks = new LeasePool(limits.unpacks);
    this.#settling = new Settling(log, () => this.#runner.isBusy);
    this.#runner = new JobRunner({
      root,
      settings,
      book: this.#book,
      compressed: this.#compressed,
      log,
      onQuiet: () => this.#settling.quiet(),
    });
  }

  async unpackLayer(request: UnpackLayerRequest, { signal }: UnpackOptions): Promise<UnpackedTree> {
    const { descriptor, diffId, form } = request;
    checkSupported(request);
    this.#runner.throwIfClosed();
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
    this.#runner.throwIfClosed();
    await this.#runner.track(this.#unpackImage(request, signal));
  }

  status(): UnpackStatus {
    return { ...this.leases(), jobs: this.#book.list() };
  }

  /** Of `status()`, without asking the database. */
  leases(): Pick<UnpackStatus, 'downloads' | 'unpacks'> {
    return { downloads: this.#downloads.status(), unpacks: this.#unpacks.status() };
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
      this.#settling.add(digest, 'quiet', async (signal) => {
        if (!handle.ofThisBoot) await dropUnsure(handle.folder);
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
        inUse: (job) => this.#runner.runs(job),
      });
      if (expired.length + removed.length + orphans > 0)
        log.info({ expired, removed, orphans }, 'unpack jobs collected');
    } catch (error) {
      log.warn({ error: errorMessage(error) }, 'cannot collect unpack jobs');
    }
  }

  async idle(): Promise<void> {
    // Trees that were taken a moment ago are settled in the next turn.
    await turn();
    await this.#settling.idle();
  }

  async close(): Promise<void> {
    const settled = this.#settling.close();
    await this.#runner.close();
    await settled;
    this.#book.close();
  }

  async #unpackImage(request: UnpackImageRequest, signal: AbortSignal): Promise<void> {
    const { image, onProgress } = request;
    const retries = new Retries();
    for (;;) {
      const { attempt } = retries;
      const pass: PassOne = (layer, work) => this.#passOne({ ...layer, image, onProgress }, attempt, work);
      try {
        await unpackImage(request, pass, { signal });
        return;
      } catch (error) {
        signal.throwIfAborted();
        if (!retries.isWorthAnother(error)) throw error;
        this.#o.log.warn({ image, error: errorMessage(error) }, 'image could not be unpacked, trying it once more');
      }
    }
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
    const unpack = async (handle: JobHandle, signal: AbortSignal) => {
      let behind = nothing;
      if (handle.state !== 'done') {
        using _lease = await this.#unpacks.acquire(request.image, { signal });
        const counted = { ...request, onProgress: this.#runner.counting(handle, request) };
        const { applied, build } = await runJob(this.#parts(), counted, handle.folder, { signal });
        handle.finished(applied);
        allHere(counted);
        if (build !== undefined) {
          behind = once((ending) => this.#built(request, build, handle, ending));
          // At once, whether anybody has taken the tree or not; without waiting for it.
          this.#settling.add(request.descriptor.digest, 'now', behind);
        }
      }
      this.#ready.add(key, { handle, settle: () => this.#settle(request, handle, behind) });
    };
    await this.#turns.run(key, () => this.#runner.run(request, request.form, shared, unpack), { signal: shared });
  }

  /** One layer of an image that goes to a directory of somebody else's. */
  async #passOne(
    request: LayerJob,
    { index, local }: Attempt,
    { sink, whole, signal: outer }: Parameters<PassOne>[1],
  ): Promise<void> {
    await this.#runner.run(request, 'image', outer, async (handle, signal) => {
      const parts = this.#parts();
      const { folder } = handle;
      let behind = nothing;
      const lease = await this.#unpacks.acquire(request.image, { signal });
      const onProgress = this.#runner.counting(handle, request);
      const wanted = { ...request, onProgress, local: local === 'ask' ? request.local : undefined };
      await using blob = new JobBlob(folder, () => findBlob(parts, wanted, folder, { signal }));
      try {
        await passLayer(parts, {
          ...request,
          folder,
          blob: () => blob.open(),
          index,
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
      }
      await blob.verified();
      handle.finished({ implied: [], hiding: [] });
      allHere(wanted);
      handle.claim(() => {});
      this.#settle(request, handle, behind);
    });
  }

  async #built({ onBuilt }: LayerJob, build: LayerBuild, handle: JobHandle, signal: AbortSignal): Promise<void> {
    if (this.#o.settings().fillCache) await keepIndex(build, handle.folder, { signal });
    await onBuilt?.(build, { signal });
  }

  #settle(request: LayerJob, handle: JobHandle, behind: Behind): void {
    const { descriptor, diffId, local } = request;
    this.#settling.add(descriptor.digest, 'quiet', async (signal) => {
      await behind(signal).catch((error: unknown) => {
        signal.throwIfAborted();
        this.#o.log.warn({ layer: descriptor.digest, error: errorMessage(error) }, 'no index is kept of the layer');
      });
      await settleJob(this.#parts(), { folder: handle.folder, descriptor, diffId, local }, { signal });
      await handle.remove();
    });
  }
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

/** After a power cut nobody knows how much was written of what is kept unread. */
async function dropUnsure(folder: string): Promise<void> {
  await rm(join(folder, 'data'), { force: true });
  await removeBlob(folder);
}

/** What it holds on to goes when it is done. */
function once(work: Behind): Behind {
  let todo = work;
  let running: Promise<void> | undefined;
  return (signal) => {
    if (running === undefined) {
      running = todo(signal);
      todo = nothing;
    }
    return running;
  };
}

/** Also of a layer that was on the node already. */
function allHere({ descriptor: { digest, size }, onProgress }: JobRequest): void {
  onProgress?.({ what: progressName(digest), done: size, total: size });
}
