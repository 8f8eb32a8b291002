// The long-lived process, put together: a node, the mounts it serves, the snapshotter, and who may ask for them.
import { configWarnings } from '../config/conflicts.ts';
import type { Environment } from '../config/environment.ts';
import type { DaemonConfig } from '../config/schema.ts';
import type { ServiceEnvironment } from '../config/service-environment.ts';
import { socketPaths } from '../config/sockets.ts';
import { errorMessage } from '../layer/errors.ts';
import { Scrubber } from '../fsck/scrub.ts';
import type { CacheKeeper } from '../image/cache-keeper.ts';
import type { LogRing } from '../observe/log-ring.ts';
import type { AdjustableLog } from '../observe/log.ts';
import { DaemonMetrics } from '../observe/metrics.ts';
import { untilAborted } from '../util/until-aborted.ts';
import { restartKeys } from './config-changes.ts';
import type { ControlBackend } from './control-routes.ts';
import { serveControl } from './control-server.ts';
import type { ControlServer } from './control-server.ts';
import { giveUpSockets, keptSocket } from './kept-sockets.ts';
import { openCredentials } from './credentials.ts';
import type { DaemonCredentials } from './credentials.ts';
import { keeperStatus } from './keeper-status.ts';
import { observeDaemon } from './daemon-gauges.ts';
import { DaemonMounts } from './daemon-mounts.ts';
import { degradedLines } from './degraded.ts';
import { DaemonError } from './errors.ts';
import { downloadsOf, nodeEnvironment } from './first-things.ts';
import type { FirstThings } from './first-things.ts';
import { serveDaemonMetrics } from './metrics-server.ts';
import type { MetricsServer } from './metrics-server.ts';
import { openNode } from './node.ts';
import type { Node } from './node.ts';
import { ServiceManager } from './service-manager.ts';
import { preload } from './preload.ts';
import { Pulls } from './pulls.ts';
import { RunningMark } from './running-mark.ts';
import { startSnapshotter } from './snapshotter-part.ts';
import type { SnapshotterPart } from './snapshotter-part.ts';
import type { StatusReport } from './status-report.ts';
import { Unpacking } from './unpacking.ts';

export interface DaemonOptions {
  readonly version: string;
  readonly config: DaemonConfig;
  /** Reads it again, for whoever asks for that. Errors: those of a configuration that is wrong. */
  readonly readConfig: () => Promise<DaemonConfig>;
  readonly environment: Environment;
  readonly service: ServiceEnvironment;
  /** Done before this was loaded; closed with the daemon. */
  readonly first: FirstThings;
  readonly log: AdjustableLog;
  readonly logRing: LogRing;
  /** Ends a start that is under way, with its reason. */
  readonly signal?: AbortSignal | undefined;
}

export interface Daemon {
  status(): Promise<StatusReport>;
  /** Takes over what can change while it runs; the old configuration stays when the new one is wrong. Returns what needs a restart. */
  reload(): Promise<readonly string[]>;
  /** Stops serving and destroys nothing: mounts, snapshots and state wait for the next daemon. Idempotent. Never rejects. */
  close(reason: string): Promise<void>;
}

/** ms for all mounts of an earlier daemon together. */
const remakeMs = 30_000;
/** ms after a read that missed in which others may follow. */
const busyMs = 2_000;
/** ms after which a part that does not stop is left as it is. */
const closeMs = 10_000;
const keeperMs = 1_000;

/** Serves when it resolves. Errors: DaemonError, ConfigError, StateError, the signal's reason; nothing is left running then. */
export async function startDaemon(options: DaemonOptions): Promise<Daemon> {
  const daemon = new RunningDaemon(options);
  try {
    await daemon.start();
    return daemon;
  } catch (error) {
    const isStopped = options.signal?.aborted === true;
    if (!isStopped) options.log.log.error({ error: errorMessage(error) }, 'daemon cannot start');
    await daemon.close(isStopped ? 'it was told to stop while it started' : 'it cannot start');
    throw error;
  }
}

interface Part {
  readonly name: string;
  readonly close: () => Promise<void> | void;
}

class RunningDaemon implements Daemon {
  readonly #o: DaemonOptions;
  readonly #startedAt = Date.now();
  /** Closed in the reverse order. */
  readonly #parts: Part[] = [];
  #config: DaemonConfig;
  /** Why the configuration that was read last is not in use. */
  #refusal: string | undefined;
  #node: Node | undefined;
  #mounts: DaemonMounts | undefined;
  #metrics: DaemonMetrics | undefined;
  #metricsServer: MetricsServer | undefined;
  #credentials: DaemonCredentials | undefined;
  #snapshotter: SnapshotterPart | undefined;
  #unpacking: Unpacking | undefined;
  #keeper: CacheKeeper | undefined;
  #scrubber: Scrubber | undefined;
  /** ms of `performance.now()`: when somebody wanted last what was not here. */
  #missedAt = -Infinity;
  #service: ServiceManager | undefined;
  #reloading: Promise<readonly string[]> = Promise.resolve([]);
  readonly #stopping = new AbortController();
  #closing: Promise<void> | undefined;

  constructor(options: DaemonOptions) {
    this.#o = options;
    this.#parts.push({ name: 'first things', close: async () => await options.first.close() });
    this.#config = options.config;
  }

  async start(): Promise<void> {
    const { config, service, version, signal, first } = this.#o;
    const { log } = this.#o.log;
    for (const warning of configWarnings(config)) log.warn({}, `configuration: ${warning}`);
    const { paths } = first.store;
    const mark = new RunningMark(paths.root, log);
    this.#parts.push({ name: 'running mark', close: () => mark.remove() });
    const metrics = await DaemonMetrics.create();
    this.#metrics = metrics;
    const node = await this.#openNode(metrics);
    this.#node = node;
    this.#parts.push({ name: 'node', close: async () => await node.close() });
    const onMiss = (spans: number) => {
      this.#missedAt = performance.now();
      metrics.missed(spans);
    };
    first.supply({ openOrigin: node.imageDeps.openOrigin, lazy: node.laziness.lazy, onMiss });
    this.#keeper = await node.keepCache(() => this.#config.cache);
    node.laziness.countedBy(metrics.layers.activity);
    this.#parts.push({ name: 'credentials', close: async () => await this.#credentials?.close() });

    this.#service = new ServiceManager({
      socket: service.notifySocket,
      watchdogMs: service.watchdogMs,
      check: () => node.state.check(),
      log: log.child({ component: 'service' }),
    });
    const mounts = new DaemonMounts(node, log.child({ component: 'mount' }));
    this.#mounts = mounts;
    this.#parts.push({ name: 'mounts', close: async () => await mounts.leaveAll() });
    const unpacking = await Unpacking.start({
      node,
      config: () => this.#config,
      log: log.child({ component: 'unpack' }),
    });
    this.#unpacking = unpacking;
    this.#parts.push({ name: 'unpacking', close: async () => await unpacking.close() });
    this.#snapshotter = await startSnapshotter({
      config,
      node,
      metrics,
      log: log.child({ component: 'snapshotter' }),
      listenFd: service.listenFds.get('snapshotter'),
      fds: first.fds,
      mounts: first.mounts,
      unpacker: unpacking.unpacker,
      localBlobs: unpacking.localBlobs,
      onStart: (start) => void node.laziness.recorder.begin(start),
      onBuilt: unpacking.onBuilt,
    });
    this.#parts.push({ name: 'snapshotter', close: async () => await this.#snapshotter?.close() });
    signal?.throwIfAborted();
    // After the snapshots, which containerd waits for and which ask no registry.
    await mounts.remakeAll({ timeoutMs: remakeMs, signal });
    signal?.throwIfAborted();
    const isMount = (owner: string) => owner.startsWith('mount:');
    await node.connections?.endOthers(this.#snapshotter === undefined ? isMount : undefined);
    await this.#credentials?.serveCri?.();
    observeDaemon(metrics, {
      mounts,
      node,
      snapshotter: this.#snapshotter,
      unpacking,
      keeper: this.#keeper,
      scrub: () => this.#scrubber?.stats(),
    });
    await this.#serveMetrics(config);
    this.#parts.push({ name: 'metrics', close: async () => await this.#metricsServer?.close() });
    const pulls = new Pulls({
      log: log.child({ component: 'pull' }),
      remember: async ({ image, credentials }) => await this.#credentials?.remember(image, credentials),
      onBytes: metrics.fetched,
    });
    this.#parts.push({ name: 'pulls', close: async () => await pulls.close() });
    const control = await this.#serveControl(paths.root, pulls);
    this.#parts.push({ name: 'control', close: async () => await control.close() });
    await giveUpSockets(first.fds, log);
    for (const name of service.listenFds.keys())
      if (name !== 'control' && name !== 'snapshotter')
        log.warn({ name }, 'socket with a name that means nothing here');
    this.#scrub(node, unpacking, { isUnclean: mark.wasThere });
    log.info({ version, root: paths.root, runDir: paths.runDir }, 'daemon serves');
    this.#service.ready(this.#statusLine());
    void preload();
    if (this.#snapshotter !== undefined) first.threads.stand();
  }

  async status(): Promise<StatusReport> {
    const { version, config } = this.#o;
    // One that does not answer is not there for anybody else either.
    const keeper = await keeperStatus({ socket: socketPaths(config).keeper, timeoutMs: keeperMs }).catch(
      () => undefined,
    );
    return {
      version,
      pid: process.pid,
      startedAt: this.#startedAt,
      root: this.#o.first.store.paths.root,
      runDir: this.#o.first.store.paths.runDir,
      restartNeeded: restartKeys(config, this.#config),
      warnings: [...configWarnings(this.#config), ...(this.#refusal === undefined ? [] : [this.#refusal])],
      keeper,
      degraded:
        this.#node === undefined
          ? []
          : degradedLines({
              state: this.#node.state,
              scrub: this.#scrubber?.stats(),
              shortage: this.#keeper?.shortage(),
            }),
      mounts: (await this.#mounts?.list()) ?? [],
      snapshotter: this.#snapshotter?.status(),
      unpacking: this.#unpacking?.unpacker.status(),
      registries: this.#node?.endpoints() ?? [],
    };
  }

  reload(): Promise<readonly string[]> {
    const next = this.#reloading.catch(() => []).then(async () => await this.#reload());
    this.#reloading = next;
    return next;
  }

  close(reason: string): Promise<void> {
    this.#closing ??= this.#close(reason);
    return this.#closing;
  }

  async #openNode(metrics: DaemonMetrics): Promise<Node> {
    const { config, environment, first } = this.#o;
    const { store, threads: jobs } = first;
    return await openNode({
      store,
      environment: nodeEnvironment(config, environment),
      log: this.#o.log.log,
      downloads: downloadsOf(config),
      indexes: config.index,
      lazy: () => this.#config,
      originsOptions: async ({ secrets }) => {
        const credentials = await openCredentials(config.credentials, {
          environment,
          uid: process.getuid?.() ?? 0,
          secrets,
          root: config.root,
          runDir: config.run_dir,
          log: this.#o.log.log.child({ component: 'credentials' }),
        });
        this.#credentials = credentials;
        return { onBytes: metrics.fetched, credentials: credentials.source };
      },
      jobs,
    });
  }

  #scrub(node: Node, unpacking: Unpacking, { isUnclean }: { readonly isUnclean: boolean }): void {
    const scrubber = new Scrubber({
      deps: node.fsckDeps,
      settings: () => this.#config.scrub,
      isBusy: () => performance.now() - this.#missedAt < busyMs || unpacking.isBusy,
      isUnclean,
    });
    this.#scrubber = scrubber;
    this.#parts.push({ name: 'scrub', close: async () => await scrubber.close() });
    scrubber.start();
  }

  async #serveControl(root: string, pulls: Pulls): Promise<ControlServer> {
    const { config, version, logRing, service } = this.#o;
    const node = this.#node as Node;
    const backend: ControlBackend = {
      version,
      root,
      logRing,
      status: async () => await this.status(),
      mount: async (options) => await (this.#mounts as DaemonMounts).mount(options),
      pulls,
      unmount: async (dir, { detach, signal }) => await node.unmount(dir, { detach, signal }),
      remember: async ({ image, credentials }) => await this.#credentials?.remember(image, credentials),
      reload: async () => await this.reload(),
      metrics: async () => {
        const metrics = this.#metrics as DaemonMetrics;
        return { text: await metrics.text(), contentType: metrics.contentType };
      },
    };
    const fd = service.listenFds.get('control');
    const path = socketPaths(config).control;
    const log = this.#o.log.log.child({ component: 'control' });
    try {
      const address = fd === undefined ? await keptSocket(this.#o.first.fds, { name: 'control', path, log }) : { fd };
      return await serveControl(address, backend, log);
    } catch (cause) {
      throw new DaemonError('ERR_DAEMON_START', `control API: ${errorMessage(cause)}`, { cause });
    }
  }

  async #serveMetrics({ metrics: { address } }: DaemonConfig): Promise<void> {
    await this.#metricsServer?.close();
    this.#metricsServer = undefined;
    if (address === undefined) return;
    this.#metricsServer = await serveDaemonMetrics(this.#metrics as DaemonMetrics, address);
    this.#o.log.log.info({ address: this.#metricsServer.address }, 'metrics are served');
  }

  async #reload(): Promise<readonly string[]> {
    const { log } = this.#o.log;
    this.#stopping.signal.throwIfAborted();
    this.#service?.reloading();
    try {
      const config = await this.#o.readConfig();
      this.#stopping.signal.throwIfAborted();
      const restart = restartKeys(this.#o.config, config);
      await this.#takeOver(config);
      this.#stopping.signal.throwIfAborted();
      this.#refusal = undefined;
      for (const warning of configWarnings(config)) log.warn({}, `configuration: ${warning}`);
      if (restart.length > 0) log.warn({ keys: restart }, 'these keys of the configuration count after a restart');
      log.info({}, 'configuration was read again');
      return restart;
    } catch (error) {
      this.#stopping.signal.throwIfAborted();
      this.#refusal = `the configuration was not taken over: ${errorMessage(error)}`;
      log.error({ error: errorMessage(error) }, 'configuration was not taken over');
      throw error;
    } finally {
      this.#service?.ready(this.#statusLine());
    }
  }

  async #takeOver(config: DaemonConfig): Promise<void> {
    this.#o.log.setLevel(config.log.level);
    this.#credentials?.reload();
    this.#node?.setLimits({ downloads: downloadsOf(config), readDeadlineMs: config.read.deadline });
    const { address } = this.#config.metrics;
    this.#config = config;
    this.#unpacking?.reload();
    this.#node?.laziness.reload();
    // Nobody waits for it: there may be much to remove.
    void this.#keeper?.check();
    const isServed = this.#metricsServer !== undefined || config.metrics.address === undefined;
    if (address !== config.metrics.address || !isServed) await this.#serveMetrics(config);
    // What was missing may be there now.
    await this.#mounts?.remakeAll({ timeoutMs: remakeMs, signal: this.#stopping.signal });
  }

  async #close(reason: string): Promise<void> {
    const { log } = this.#o.log;
    log.info({ reason }, 'daemon stops');
    this.#service?.stopping();
    this.#stopping.abort(new DaemonError('ERR_DAEMON_STOPPING', 'the daemon is stopping'));
    // What it opens would be closed by nobody.
    await untilAborted(
      this.#reloading.catch(() => []),
      AbortSignal.timeout(closeMs),
    ).catch(() => undefined);
    for (const { name, close } of this.#parts.toReversed()) {
      try {
        await untilAborted(Promise.resolve(close()), AbortSignal.timeout(closeMs));
      } catch (error) {
        log.error({ part: name, error: errorMessage(error) }, 'part of the daemon did not stop in order');
      }
    }
    this.#parts.length = 0;
  }

  #statusLine(): string {
    const { serving, failed } = this.#mounts?.counts() ?? { serving: 0, failed: 0 };
    return `serving ${serving} mounts${failed === 0 ? '' : `, ${failed} could not be made again`}`;
  }
}
