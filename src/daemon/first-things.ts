// What a daemon does before most of it is loaded: it takes over what another one served, because containers wait for that. A read of bytes
// that are on the node is answered from here on; others wait until the registries can be asked.
import { resolve } from 'node:path';
import type { Environment } from '../config/environment.ts';
import { preparePaths } from '../config/paths.ts';
import type { NodePaths } from '../config/paths.ts';
import type { DaemonConfig } from '../config/schema.ts';
import { socketPaths } from '../config/sockets.ts';
import type { LazyLayers } from '../image/lazy-layers.ts';
import type { OpenOrigin } from '../image/origin.ts';
import { errorMessage } from '../layer/errors.ts';
import { IndexThreads } from '../layer/index-threads.ts';
import { makeUndumpable } from '../native/sys.ts';
import type { Logger } from '../observe/log.ts';
import { openSnapshotMounts } from '../snapshotter/snapshot-mounts.ts';
import type { SnapshotMounts } from '../snapshotter/snapshot-mounts.ts';
import { Deferred } from '../util/deferred.ts';
import { connectKeeper } from './connect-keeper.ts';
import { lockDaemon } from './daemon-lock.ts';
import { DaemonError } from './errors.ts';
import type { FdKeeper } from './fd-keeper.ts';
import { KeeperReturn } from './keeper-return.ts';
import { openNodeStore } from './node-store.ts';
import type { Downloads, NodeStore } from './node-store.ts';

export interface FirstThingsOptions {
  readonly config: DaemonConfig;
  readonly environment: Environment;
  readonly log: Logger;
  readonly signal?: AbortSignal | undefined;
}

export interface FirstThings {
  readonly store: NodeStore;
  /** Undefined where nobody keeps file descriptors. */
  readonly fds: FdKeeper | undefined;
  readonly threads: IndexThreads;
  /** Undefined when the snapshotter is switched off. */
  readonly mounts: SnapshotMounts | undefined;
  /** From now on registries are asked for what is missing. */
  supply(rest: {
    readonly openOrigin: OpenOrigin;
    readonly lazy: LazyLayers;
    readonly onMiss: (spans: number) => void;
  }): void;
  /** Closes what nobody else has closed by then. Idempotent. */
  close(): Promise<void>;
}

/** ms that a thread waits for its next index where none has to be there all the time. */
const keepThreadMs = 5_000;

/** Errors: DaemonError, ConfigError, StateError; nothing is left open then. */
export async function doFirstThings({ config, environment, log, signal }: FirstThingsOptions): Promise<FirstThings> {
  makeUndumpable();
  const opened: (() => Promise<void> | void)[] = [];
  const close = async () => {
    for (const end of opened.splice(0).toReversed()) await end();
  };
  const origin = new Deferred<OpenOrigin>();
  origin.promise.catch(() => undefined);
  let onMiss: ((spans: number) => void) | undefined;
  let lazy: LazyLayers | undefined;
  try {
    const paths = await daemonPaths(config, environment);
    const lock = lockDaemon([paths.root, paths.runDir]);
    opened.push(() => lock[Symbol.dispose]());
    const fds = await connectKeeper({ socket: socketPaths(config).keeper, log, signal });
    opened.push(() => fds?.close());
    if (fds !== undefined) {
      const returned = new KeeperReturn({ socket: socketPaths(config).keeper, fds, log });
      opened.push(async () => await returned.close());
    }
    const threads = new IndexThreads({ keepMs: keepThreadMs });
    opened.push(async () => await threads.close());
    const store = await openNodeStore({
      root: config.root,
      environment: nodeEnvironment(config, environment),
      log,
      downloads: downloadsOf(config),
      readDeadlineMs: config.read.deadline,
      onMiss: (spans) => onMiss?.(spans),
      jobs: threads,
      keeping: fds === undefined ? undefined : { fds, resend: config.keeper.resend },
    });
    opened.push(() => store.state.close());
    const openOrigin: OpenOrigin = async (reference) => await (await origin.promise)(reference);
    const mounts = config.snapshotter.enabled
      ? await openSnapshotMounts({
          root: store.paths.root,
          runDir: store.paths.runDir,
          state: store.state,
          store: store.layers,
          openOrigin,
          connections: store.connections,
          jobs: threads,
          transport: config.snapshotter.transport,
          downloads: config.download.per_image,
          lazy: () => lazy,
          log: log.child({ component: 'snapshotter' }),
        })
      : undefined;
    opened.push(
      async () => await mounts?.mounts.close(),
      () => origin.reject(new DaemonError('ERR_DAEMON_STOPPING', 'the daemon is stopping')),
    );
    const supply: FirstThings['supply'] = (rest) => {
      ({ lazy, onMiss } = rest);
      origin.resolve(rest.openOrigin);
    };
    return { store, fds, threads, mounts, supply, close };
  } catch (error) {
    if (signal?.aborted !== true) log.error({ error: errorMessage(error) }, 'daemon cannot start');
    await close();
    throw error;
  }
}

/** The run directory is where others look for the sockets, so no other one will do. Errors: ConfigError, ERR_DAEMON_START. */
async function daemonPaths(config: DaemonConfig, environment: Environment): Promise<NodePaths> {
  const paths = await preparePaths({
    root: config.root,
    environment: nodeEnvironment(config, environment),
    uid: process.getuid?.() ?? 0,
  });
  if (paths.runDir !== resolve(config.run_dir))
    throw new DaemonError(
      'ERR_DAEMON_START',
      `run directory ${config.run_dir} cannot be used: it must be writable and belong to the user of the daemon`,
    );
  return paths;
}

/** What the configuration says goes before the usual places; variables of the person who starts the daemon go before that. */
export function nodeEnvironment(config: DaemonConfig, environment: Environment): Environment {
  return {
    ...environment,
    peelRunDir: config.run_dir,
    peelCertsDir: environment.peelCertsDir ?? config.registry.certs_dirs.join(':'),
  };
}

export function downloadsOf({ download }: DaemonConfig): Downloads {
  return { perNode: download.per_node, perImage: download.per_image };
}
