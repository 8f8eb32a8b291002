// The containerd snapshotter as a part of the daemon.
import type { DaemonConfig } from '../config/schema.ts';
import { socketPaths } from '../config/sockets.ts';
import { inUserNamespace } from '../config/user-namespace.ts';
import type { FdStore } from '../image/fd-store.ts';
import type { LayerMountStatus } from '../image/layer-mount-status.ts';
import type { NewStart } from '../image/start-recorder.ts';
import { bootId } from '../image/process-identity.ts';
import { syncFilesystem } from '../native/sys.ts';
import type { Logger } from '../observe/log.ts';
import type { DaemonMetrics, Gauges } from '../observe/metrics.ts';
import type { BuiltLayer } from '../snapshotter/session-deps.ts';
import { serveGrpc } from '../snapshotter/grpc/serve-grpc.ts';
import type { GrpcListener } from '../snapshotter/grpc/serve-grpc.ts';
import { SnapshotLayers } from '../snapshotter/snapshot-layers.ts';
import type { SnapshotMounts } from '../snapshotter/snapshot-mounts.ts';
import { addSnapshotsService } from '../snapshotter/snapshots-service.ts';
import { Snapshotter } from '../snapshotter/snapshotter.ts';
import type { LayerDirectory, SnapshotKind } from '../state/snapshots.ts';
import type { LocalBlobs } from '../unpack/blob-feed.ts';
import type { Unpacker } from '../unpack/unpacker.ts';
import type { UnixAddress } from '../util/listen-unix.ts';
import { keptSocket } from './kept-sockets.ts';
import type { Node } from './node.ts';
import type { Serving, SnapshotLayerLine, SnapshotterReport } from './status-report.ts';

export interface SnapshotterContext {
  readonly config: DaemonConfig;
  /** With its state, and `imageDeps` to open layers by. */
  readonly node: Node;
  readonly metrics: DaemonMetrics;
  readonly log: Logger;
  /** A socket that the service manager has bound; else `snapshotter.socket`, or `<run_dir>/snapshotter.sock`. */
  readonly listenFd: number | undefined;
  /** What an earlier daemon served, and this one serves already. */
  readonly mounts?: SnapshotMounts | undefined;
  /** Where its own socket outlives this process. */
  readonly fds?: FdStore | undefined;
  /** Undefined: whatever the mode, no layer is unpacked by the daemon. */
  readonly unpacker?: Unpacker | undefined;
  /** Blobs that containerd has for one of its namespaces. */
  readonly localBlobs?: ((namespace: string) => LocalBlobs) | undefined;
  /** Told of every container that is about to run above lazy layers. */
  readonly onStart?: ((start: NewStart) => void) | undefined;
  /** Told of every layer that was decoded to unpack it. */
  readonly onBuilt?: ((built: BuiltLayer) => Promise<void>) | undefined;
}

export interface SnapshotterPart {
  status(): SnapshotterReport;
  gauges(): Pick<Gauges, 'snapshots' | 'layers' | 'presentBytes' | 'fuseErrors'>;
  /** Stops serving; mounts and snapshots stay. Idempotent. */
  close(): Promise<void>;
}

/** Serves when it resolves, with the layers of all snapshots mounted. Undefined when it is switched off. */
export async function startSnapshotter(context: SnapshotterContext): Promise<SnapshotterPart | undefined> {
  const { config, node, metrics, log, listenFd, fds } = context;
  if (!config.snapshotter.enabled) return undefined;
  const userXattr = inUserNamespace();
  const layers = await openLayers(context, userXattr);
  const snapshotter = new Snapshotter({
    root: node.paths.root,
    table: node.state.snapshots,
    layers,
    userXattr,
    prepareTimeoutMs: config.snapshotter.prepare_timeout,
    boot: await bootId(),
    syncFilesystem,
    log,
    onOutcome: ({ outcome, milliseconds }) => metrics.prepared(outcome, milliseconds),
  });
  const path = socketPaths(config).snapshotter;
  try {
    const address: UnixAddress =
      listenFd === undefined ? await keptSocket(fds, { name: 'snapshotter', path, log }) : { fd: listenFd };
    const listener = await serveGrpc(address, (server) => addSnapshotsService(server, snapshotter, log));
    return new RunningSnapshotter(path, listener, layers, snapshotter);
  } catch (error) {
    await snapshotter.close();
    await layers.close();
    throw error;
  }
}

async function openLayers(context: SnapshotterContext, userXattr: boolean): Promise<SnapshotLayers> {
  const { config, node, log, unpacker, localBlobs, onStart, onBuilt, mounts } = context;
  const { content, openOrigin, layers: store } = node.imageDeps;
  const { mode, transport, whole_layer_limit: wholeLayerLimit } = config.snapshotter;
  const { formats, choice } = config.index;
  return await SnapshotLayers.open({
    root: node.paths.root,
    runDir: node.paths.runDir,
    state: node.state,
    store,
    content,
    openOrigin,
    mounts,
    jobs: node.jobs,
    userXattr,
    unpacker,
    localBlobs,
    onStart,
    onBuilt,
    lazily: node.laziness,
    config: {
      mode,
      transport,
      formats,
      choice,
      wholeLayerLimit,
      // Changes when the configuration is read again.
      get downloadsPerImage() {
        return node.imageDeps.downloadsPerImage;
      },
    },
    log,
  });
}

class RunningSnapshotter implements SnapshotterPart {
  readonly #socket: string;
  readonly #listener: GrpcListener;
  readonly #layers: SnapshotLayers;
  readonly #snapshotter: Snapshotter;

  constructor(socket: string, listener: GrpcListener, layers: SnapshotLayers, snapshotter: Snapshotter) {
    this.#socket = socket;
    this.#listener = listener;
    this.#layers = layers;
    this.#snapshotter = snapshotter;
  }

  status(): SnapshotterReport {
    const { snapshots, outcomes, left, unpacked } = this.#snapshotter.status();
    const { served: _served, unpacked: _unpacked, found: _found, ...deferrals } = outcomes;
    const unpackedLines = [
      ...unpacked.map((layer) => unpackedLine(layer, 'peel')),
      ...left.map((layer) => unpackedLine(layer, 'containerd')),
    ];
    return { socket: this.#socket, layers: [...this.#served(), ...unpackedLines], deferrals, snapshots };
  }

  gauges(): ReturnType<SnapshotterPart['gauges']> {
    const { snapshots, left, unpacked } = this.#snapshotter.status();
    const layers = this.#layers.status();
    const counts: Record<string, number> = {};
    for (const serving of [...layers.map(servingOf), ...[...unpacked, ...left].map(unpackedServing)])
      counts[serving] = (counts[serving] ?? 0) + 1;
    const presentBytes = layers.reduce((sum, layer) => sum + layer.presentBytes, 0);
    return { snapshots, layers: counts, presentBytes, fuseErrors: this.#layers.fuseErrors() };
  }

  async close(): Promise<void> {
    await this.#listener.close();
    await this.#layers.close();
    await this.#snapshotter.close();
  }

  #served(): SnapshotLayerLine[] {
    return this.#layers.status().map((status) => ({
      slot: status.slot,
      layer: status.layer,
      serving: servingOf(status),
      why: status.why,
      transport: status.direct ? `${status.transport}, straight from the file` : status.transport,
      presentBytes: status.presentBytes,
      streamSize: status.streamSize,
      lastError: status.lastError,
      images: this.#layers.imagesOf(status.layer),
    }));
  }
}

/** One that is not mounted is lazy at best; its error says the rest. */
function servingOf({ serving }: LayerMountStatus): Serving {
  return serving === 'complete' ? 'complete' : 'lazy';
}

function unpackedServing({ kind }: { readonly kind: SnapshotKind }): Serving {
  return kind === 'committed' ? 'unpacked' : 'deferred';
}

/** A layer with a directory, or one that containerd was told to unpack. */
function unpackedLine(layer: LayerDirectory, unpackedBy: 'peel' | 'containerd'): SnapshotLayerLine {
  const why = layer.reason ?? '';
  const serving = unpackedServing(layer);
  return {
    layer: layer.layer ?? layer.key,
    serving,
    why: serving === 'unpacked' || unpackedBy === 'peel' ? `by ${unpackedBy}: ${why}` : why,
    images: layer.image === undefined ? [] : [layer.image],
    unpackedBy,
  };
}
