// Everything one process needs of a node, put together: the commands and the serving process start here.
import { join } from 'node:path';
import { readEnvironment } from '../config/environment.ts';
import type { Environment } from '../config/environment.ts';
import type { NodePaths } from '../config/paths.ts';
import type { CacheSettings } from '../config/cache-bounds.ts';
import type { CheckOptions, FsckDeps } from '../fsck/check.ts';
import type { Finding } from '../fsck/finding.ts';
import type { FsckReport } from '../fsck/fsck.ts';
import type { CacheKeeper } from '../image/cache-keeper.ts';
import type { CacheReport } from '../image/cache-report.ts';
import { pruneCache, cacheEntries, removeCached } from '../image/cache-service.ts';
import type { CacheDeps, CacheEntry, CacheRemoval } from '../image/cache-service.ts';
import { ContentStore } from '../image/content-store.ts';
import { ContentFetcher } from '../image/content.ts';
import type { InspectedImage, OpenImageOptions } from '../image/image.ts';
import { IndexService } from '../image/index-service.ts';
import type { LoadedImage } from '../image/loaded-image.ts';
import type { KeptConnections } from '../image/kept-connections.ts';
import { mountSystem } from '../image/mount-system.ts';
import { openImage } from '../image/open-image.ts';
import type { IndexPolicy, OpenImageDeps } from '../image/open-image.ts';
import { ProfileService } from '../image/profile-service.ts';
import type { RecordStartOptions, StartRecord } from '../image/record-start.ts';
import type { ServedMount, ServeMountDeps, ServeMountOptions } from '../image/serve-mount.ts';
import { TreeBuilder } from '../image/tree-builder.ts';
import type { UnpackedImage, UnpackImageOptions } from '../image/unpack-image.ts';
import type { MountStatus, UmountOptions } from '../image/umount.ts';
import { listMounts, umount } from '../image/umount.ts';
import type { IndexJobs } from '../layer/index-job.ts';
import { statFs } from '../native/sys.ts';
import { createLog } from '../observe/log.ts';
import type { Logger } from '../observe/log.ts';
import type { MountRow } from '../state/mounts.ts';
import type { State } from '../state/state.ts';
import { UnpackError } from '../unpack/errors.ts';
import type { Unpacker } from '../unpack/unpacker.ts';
import { defaultLazyConfig, Laziness } from './laziness.ts';
import type { LazyConfig } from './laziness.ts';
import { openNodeStore, requestsPerLink } from './node-store.ts';
import type { Downloads, NodeStore } from './node-store.ts';
import { Origins } from './origins.ts';
import type { OriginsOptions, RegistryEndpoint } from './origins.ts';
import type { RegistryAccess } from './registry-access.ts';

export interface NodeOptions {
  /** State directory; default as config/paths.ts says. */
  readonly root?: string | undefined;
  /** Default `error`. */
  readonly logLevel?: string | undefined;
  /** ms from a read that misses until EIO; default 60 000. */
  readonly readDeadlineMs?: number | undefined;
  /** How the registries that are named are reached; default as docker's configuration and hosts.toml say. */
  readonly access?: RegistryAccess | undefined;
  /** Default that of the process. */
  readonly environment?: Environment | undefined;
  /** In place of one to stderr at `logLevel`. */
  readonly log?: Logger | undefined;
  /** Requests to registries at once; default 16 of the process and 8 of each image. */
  readonly downloads?: Downloads | undefined;
  /** What else is to be known about registries, e.g. credentials that are kept in the state. */
  readonly originsOptions?: ((state: State) => Promise<Partial<OriginsOptions>>) | undefined;
  /** Of images that are opened here; default: every format, the newest. */
  readonly indexes?: IndexPolicy | undefined;
  /** Called with the number of spans that a reader wants and that are not here. */
  readonly onMiss?: ((spans: number) => void) | undefined;
  /** What goes on behind what is mounted here; default: read-ahead, and the fill where it is asked for. */
  readonly lazy?: (() => LazyConfig) | undefined;
  /** Who reads indexes and compiles trees, of whoever opens the node; default: this thread the former, and threads that come and go the latter. */
  readonly jobs?: IndexJobs | undefined;
  /** What is open already, in place of `root`, and of what is said here of its layers. */
  readonly store?: NodeStore | undefined;
  /** Makes what unpacks layers here; called when something is to be unpacked first, and closed with the node. */
  readonly openUnpacker?: ((node: Node) => Promise<Unpacker>) | undefined;
}

export interface NodeFsckOptions extends Pick<CheckOptions, 'repair' | 'signal' | 'onProgress'> {
  /** Layers by digest, or images whose layers are meant; none: everything. */
  readonly names: readonly string[];
  /** Bytes of disk per second; 0: as fast as it goes. */
  readonly bandwidth: number;
  readonly onFinding: (finding: Finding) => void;
}

const defaultDownloads: Downloads = { perNode: 16, perImage: 8 };
const readDeadlineMs = 60_000;

/** Errors: ConfigError when the state directory cannot be used, StateError. */
export async function openNode(options: NodeOptions = {}): Promise<Node> {
  const environment = options.environment ?? readEnvironment();
  const uid = process.getuid?.() ?? 0;
  const log = options.log ?? createLog({ level: options.logLevel ?? environment.peelLogLevel ?? 'error' });
  const downloads = options.downloads ?? defaultDownloads;
  const { root, onMiss, jobs, openUnpacker, indexes } = options;
  const store =
    options.store ??
    (await openNodeStore({
      root,
      environment,
      log,
      downloads,
      readDeadlineMs: options.readDeadlineMs ?? readDeadlineMs,
      onMiss,
      jobs,
    }));
  const { state } = store;
  try {
    const origins = new Origins({
      environment,
      log: log.child({ component: 'registry' }),
      access: options.access,
      onReturn: (host) => store.links.returned(host),
      ...(await options.originsOptions?.(state)),
    });
    const downloadsPerImage = downloads.perImage;
    const laziness = new Laziness({
      config: options.lazy ?? (() => defaultLazyConfig),
      state,
      log: log.child({ component: 'layer' }),
    });
    return new Node({ ...store, uid, log, origins, laziness, downloadsPerImage, indexes, openUnpacker, jobs });
  } catch (error) {
    state.close();
    throw error;
  }
}

interface NodeParts extends NodeStore {
  readonly uid: number;
  readonly log: Logger;
  readonly origins: Origins;
  readonly laziness: Laziness;
  readonly downloadsPerImage: number;
  readonly indexes: NodeOptions['indexes'];
  readonly openUnpacker: NodeOptions['openUnpacker'];
  readonly jobs: NodeOptions['jobs'];
}

export class Node {
  readonly paths: NodePaths;
  readonly indexes: IndexService;
  readonly profiles: ProfileService;
  readonly #parts: NodeParts;
  #imageDeps: OpenImageDeps;
  #unpacker: Promise<Unpacker> | undefined;
  #keeper: Promise<CacheKeeper> | undefined;

  constructor(parts: NodeParts) {
    const { paths, state, layers, log, origins, downloadsPerImage, indexes, jobs } = parts;
    this.paths = paths;
    this.#parts = parts;
    const store = new ContentStore(paths.root);
    const content = new ContentFetcher(store, state.images);
    const openOrigin = origins.open;
    this.#imageDeps = {
      openOrigin,
      state,
      content,
      layers,
      trees: new TreeBuilder(paths.root, jobs),
      log,
      downloadsPerImage,
      indexes,
    };
    this.indexes = new IndexService({ openOrigin, state, content, store, log });
    this.profiles = new ProfileService({ openOrigin, state, content });
  }

  /** Errors: ImageError, OciError. The caller closes it. */
  openImage(reference: string, options?: OpenImageOptions): Promise<LoadedImage> {
    return openImage(reference, this.#imageDeps, options);
  }

  /** What is known of an image without fetching its layers. Errors: ImageError, OciError. */
  async inspectImage(reference: string, options?: OpenImageOptions): Promise<InspectedImage> {
    const { inspectImage } = await import('../image/inspect-image.ts');
    return await inspectImage(reference, this.#imageDeps, options);
  }

  get uid(): number {
    return this.#parts.uid;
  }

  get state(): State {
    return this.#parts.state;
  }

  /** To the registries that layers come from: bytes per second, and ms to the first byte. */
  links(): { readonly bandwidth: number; readonly delayMs: number }[] {
    return this.#parts.links.links.map(({ bandwidth, delayMs }) => ({ bandwidth, delayMs }));
  }

  /** Of the registries that were asked for something, each with its mirrors. */
  endpoints(): readonly RegistryEndpoint[] {
    return this.#parts.origins.endpoints();
  }

  /** What goes on behind what is served lazily here. */
  get laziness(): Laziness {
    return this.#parts.laziness;
  }

  /** What outlives this process; undefined where nobody keeps it. */
  get connections(): KeptConnections | undefined {
    return this.#parts.connections;
  }

  /** Who reads indexes and compiles trees for it; undefined when nobody was named. */
  get jobs(): IndexJobs | undefined {
    return this.#parts.jobs;
  }

  /** For those that open layers by themselves. */
  get imageDeps(): OpenImageDeps {
    return this.#imageDeps;
  }

  /** Counts from now on; what is under way or open goes on as it began. */
  setLimits({ downloads, readDeadlineMs }: { readonly downloads: Downloads; readonly readDeadlineMs: number }): void {
    this.#parts.slots.resize(downloads.perNode);
    this.#parts.links.setRequests(requestsPerLink(downloads));
    this.#parts.layers.readDeadlineMs = readDeadlineMs;
    this.#imageDeps = { ...this.#imageDeps, downloadsPerImage: downloads.perImage };
  }

  /** Mounts and serves in this process. Errors: ImageError. */
  async mount(options: ServeMountOptions): Promise<ServedMount> {
    const { serveMount } = await import('../image/serve-mount.ts');
    return await serveMount(await this.#mountDeps(), options);
  }

  /** Runs a command in an image, in this process's mount, and records what its start touches. Errors: ImageError. */
  async recordStart(options: RecordStartOptions): Promise<StartRecord> {
    const { recordStart } = await import('../image/record-start.ts');
    return await recordStart({ ...(await this.#mountDeps()), profiles: this.#parts.state.profiles }, options);
  }

  /** Makes a mount of an earlier daemon again. Errors: ImageError. */
  async remount(row: MountRow, options: { readonly signal?: AbortSignal | undefined }): Promise<ServedMount> {
    const { remakeMount } = await import('../image/remake-mount.ts');
    return await remakeMount(await this.#mountDeps(), row, options);
  }

  async #mountDeps(): Promise<ServeMountDeps> {
    const { paths, uid, log, state } = this.#parts;
    const { transportsOf } = await import('./transports.ts');
    return {
      openImage: (reference, open, mount) =>
        openImage(reference, { ...this.#imageDeps, layerLog: log.child({ component: 'layer', mount }) }, open),
      transports: transportsOf(uid, paths),
      connections: this.#parts.connections,
      system: mountSystem(uid),
      mounts: state.mounts,
      lazily: this.#parts.laziness,
      root: paths.root,
      uid,
      log: log.child({ component: 'mount' }),
    };
  }

  /** Errors: ImageError. Returns what was unmounted. */
  unmount(dir: string, options?: UmountOptions): Promise<{ readonly dir: string }> {
    const { paths, uid, state } = this.#parts;
    return umount({ mounts: state.mounts, system: mountSystem(uid), root: paths.root }, dir, options);
  }

  mounts(): Promise<MountStatus[]> {
    const { state, paths } = this.#parts;
    return listMounts({ mounts: state.mounts, root: paths.root });
  }

  /** Layers in the block cache, least recently used first. */
  cacheEntries(): Promise<CacheEntry[]> {
    return cacheEntries(this.#parts.paths.root, this.#parts.state);
  }

  /** Removes layers by digest or unique prefix of one; `all` for every layer that nobody uses. Errors: ImageError. */
  removeCached(which: readonly string[] | 'all'): Promise<CacheRemoval> {
    return removeCached(this.#cacheDeps, which);
  }

  /** Removes whole layers, least recently used first, until the cache has at most `maxBytes` on disk. */
  pruneCache(maxBytes: number): Promise<CacheRemoval> {
    return pruneCache(this.#cacheDeps, maxBytes);
  }

  /** How full the cache is, and what of it cannot go. */
  async cacheReport(settings: CacheSettings): Promise<CacheReport> {
    const { cacheReport } = await import('../image/cache-report.ts');
    return await cacheReport(this.#cacheDeps, settings);
  }

  /** Compares what is on the node with its digests. Errors: ImageError for names that are unknown; the signal's reason. */
  async fsck({ names, bandwidth, onFinding, ...options }: NodeFsckOptions): Promise<FsckReport> {
    const { fsck, allLayers } = await import('../fsck/fsck.ts');
    const { chooseLayers } = await import('../fsck/choose-layers.ts');
    const { Pace } = await import('../fsck/pace.ts');
    const deps = this.fsckDeps;
    const { openOrigin, content, state } = this.#imageDeps;
    const known = { openOrigin, content, images: state.images };
    const layers = names.length === 0 ? undefined : await chooseLayers(known, names, await allLayers(deps), options);
    const pace = new Pace(bandwidth);
    return await fsck(deps, {
      ...options,
      layers,
      pace: (bytes, signal) => pace.take(bytes, signal),
      found: onFinding,
    });
  }

  /** For those that check what is on the node. */
  get fsckDeps(): FsckDeps {
    const { openOrigin, state, layers: store, downloadsPerImage: downloads } = this.#imageDeps;
    const log = this.#parts.log.child({ component: 'fsck' });
    return { root: this.paths.root, state, store, openOrigin, downloads, log };
  }

  /** Keeps the cache within its bounds until the node is closed, unless another process does. The same one each time. */
  keepCache(settings: () => CacheSettings): Promise<CacheKeeper> {
    this.#keeper ??= this.#keepCache(settings);
    return this.#keeper;
  }

  async #keepCache(settings: () => CacheSettings): Promise<CacheKeeper> {
    const { CacheKeeper } = await import('../image/cache-keeper.ts');
    const { DiskStock } = await import('../image/disk-stock.ts');
    const { root } = this.paths;
    const stock = new DiskStock(this.#cacheDeps);
    const log = this.#parts.log.child({ component: 'cache' });
    const keeper = new CacheKeeper({ root, settings, stock, space: () => statFs(root), log });
    this.#parts.laziness.keptBy(keeper);
    keeper.start();
    return keeper;
  }

  get #cacheDeps(): CacheDeps {
    const { paths, state, layers } = this.#parts;
    return { root: paths.root, state, layers };
  }

  /** Everything of an image into an ordinary directory. Errors: ImageError, OciError, UnpackError; the signal's reason. */
  async unpackImage(options: UnpackImageOptions): Promise<UnpackedImage> {
    const { unpackImage } = await import('../image/unpack-image.ts');
    const { openOrigin, state, content } = this.#imageDeps;
    const unpacker = await this.unpacker();
    const { images, layerSources: sources } = state;
    return await unpackImage({ openOrigin, images, sources, content, unpacker }, options);
  }

  /** The same one each time. Errors: ERR_UNPACK_DISABLED when the node was opened without. */
  async unpacker(): Promise<Unpacker> {
    const { openUnpacker } = this.#parts;
    if (openUnpacker === undefined)
      throw new UnpackError('ERR_UNPACK_DISABLED', 'unpacking is switched off on this node');
    this.#unpacker ??= openUnpacker(this);
    return await this.#unpacker;
  }

  /** Why the kernel transport cannot be used here; undefined when it can. */
  async kernelRefusal(): Promise<string | undefined> {
    const { uid, paths } = this.#parts;
    if (uid !== 0) return 'it needs root';
    const { kernelRefusal } = await import('../image/kernel-probe.ts');
    return await kernelRefusal(paths.root, paths.runDir);
  }

  /** The store of `peel registry serve`. */
  get registryRoot(): string {
    return join(this.paths.root, 'registry');
  }

  /** Idempotent. Images must be closed before. */
  async close(): Promise<void> {
    await (await this.#keeper?.catch(() => undefined))?.close();
    // One that could not be opened has nothing to close.
    const unpacker = await this.#unpacker?.catch(() => undefined);
    await unpacker?.close();
    await this.#parts.laziness.close();
    await this.#parts.origins.close();
    this.#parts.state.close();
  }
}
