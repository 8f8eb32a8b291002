// Unpacking as a part of the daemon, and of commands that unpack by themselves.
import { configSchema } from '../config/schema.ts';
import type { DaemonConfig } from '../config/schema.ts';
import { bootId } from '../image/process-identity.ts';
import { IndexPublisher } from '../image/publish-index.ts';
import type { BuiltLayerOfImage } from '../image/publish-index.ts';
import { errorMessage } from '../layer/errors.ts';
import type { Logger } from '../observe/log.ts';
import type { Gauges } from '../observe/metrics.ts';
import { ContainerdBlobs } from '../snapshotter/containerd/containerd-blobs.ts';
import type { LocalBlobs } from '../unpack/blob-feed.ts';
import { NodeUnpacker } from '../unpack/node-unpacker.ts';
import type { UnpackSettings } from '../unpack/unpack-settings.ts';
import type { UnpackJobState, UnpackLimits } from '../unpack/unpacker.ts';
import type { Node } from './node.ts';

export interface UnpackingContext {
  readonly node: Node;
  /** As it is now. */
  readonly config: () => DaemonConfig;
  readonly log: Logger;
}

export class Unpacking {
  readonly unpacker: NodeUnpacker;
  readonly #context: UnpackingContext;
  readonly #publisher: IndexPublisher;
  #timer: NodeJS.Timeout | undefined;
  #collecting: Promise<void> = Promise.resolve();

  private constructor(context: UnpackingContext, unpacker: NodeUnpacker) {
    const { node, config, log } = context;
    this.#context = context;
    this.unpacker = unpacker;
    const { openOrigin, content, state } = node.imageDeps;
    this.#publisher = new IndexPublisher({ openOrigin, content, state, log, publish: () => config().index.publish });
  }

  /** Goes on with what an earlier daemon left. Errors: those of the database. */
  static async start(context: UnpackingContext): Promise<Unpacking> {
    const unpacking = new Unpacking(context, await openUnpacker(context));
    try {
      unpacking.unpacker.recover();
    } catch (error) {
      context.log.error({ error: errorMessage(error) }, 'unpack jobs of an earlier daemon cannot be found out');
    }
    unpacking.#collectLater();
    return unpacking;
  }

  /** What containerd has, and keeps, for one of its namespaces. */
  readonly localBlobs = (namespace: string): LocalBlobs =>
    new ContainerdBlobs({ address: this.#context.config().unpack.containerd, namespace });

  readonly onBuilt = async (built: BuiltLayerOfImage): Promise<void> => await this.#publisher.layerBuilt(built);

  /** Whether layers are being unpacked. */
  get isBusy(): boolean {
    const { downloads, unpacks } = this.unpacker.leases();
    return downloads.held > 0 || unpacks.held > 0;
  }

  gauges(): Pick<Gauges, 'leases' | 'unpackJobs'> {
    const { downloads, unpacks, jobs } = this.unpacker.status();
    const unpackJobs: Partial<Record<UnpackJobState, number>> = {};
    for (const { state } of jobs) unpackJobs[state] = (unpackJobs[state] ?? 0) + 1;
    return { leases: { downloads, unpacks }, unpackJobs };
  }

  /** The configuration has changed. */
  reload(): void {
    this.unpacker.setLimits(limitsOf(this.#context.config()));
    this.#collectLater();
  }

  /** Idempotent. */
  async close(): Promise<void> {
    clearTimeout(this.#timer);
    await this.#collecting;
    clearTimeout(this.#timer);
    await this.unpacker.close();
  }

  #collectLater(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      // The one before may still run, where the configuration was read again meanwhile.
      const collected = this.#collecting.then(() => this.unpacker.collect());
      this.#collecting = collected.then(() => this.#collectLater());
    }, this.#context.config().unpack.collect_interval).unref();
  }
}

/** For a command: as the configuration's defaults say. */
export async function openDefaultUnpacker(node: Node): Promise<NodeUnpacker> {
  const config = configSchema.parse({});
  return await openUnpacker({ node, config: () => config, log: node.imageDeps.log.child({ component: 'unpack' }) });
}

export async function openUnpacker({ node, config, log }: UnpackingContext): Promise<NodeUnpacker> {
  return new NodeUnpacker({
    root: node.paths.root,
    state: node.state,
    store: node.imageDeps.layers,
    boot: await bootId(),
    settings: () => settingsOf(config().unpack),
    limits: limitsOf(config()),
    log,
  });
}

function limitsOf({ download, unpack }: DaemonConfig): UnpackLimits {
  return {
    downloads: { perNode: download.per_node, perImage: download.per_image },
    unpacks: { perNode: unpack.per_node, perImage: unpack.per_image },
  };
}

function settingsOf(unpack: DaemonConfig['unpack']): UnpackSettings {
  return {
    chunkSize: unpack.chunk_size,
    keepCompressed: unpack.keep_compressed,
    fillCache: unpack.fill_cache,
    maxLayerSize: unpack.max_layer_size,
    maxRatio: unpack.max_ratio,
    reserve: unpack.reserve,
    expiryMs: unpack.expiry,
    decompressors: unpack.decompressors,
  };
}
