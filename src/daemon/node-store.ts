// What a node has on its disk, opened: all that is needed to serve layers that are there.
import type { Environment } from '../config/environment.ts';
import { preparePaths } from '../config/paths.ts';
import type { NodePaths } from '../config/paths.ts';
import type { FdStore } from '../image/fd-store.ts';
import { KeptConnections } from '../image/kept-connections.ts';
import { bootId } from '../image/process-identity.ts';
import type { IndexJobs } from '../layer/index-job.ts';
import { LayerDirectories } from '../layer/layer-paths.ts';
import { LayerStore } from '../layer/layer-store.ts';
import { LinkTable } from '../layer/link-table.ts';
import { fetchSlots } from '../layer/permits.ts';
import type { Logger } from '../observe/log.ts';
import { openState } from '../state/state.ts';
import type { State } from '../state/state.ts';
import type { Semaphore } from '../util/semaphore.ts';

export interface Downloads {
  readonly perNode: number;
  readonly perImage: number;
}

/** Where FUSE connections outlive this process. */
export interface Keeping {
  readonly fds: FdStore;
  /** The kernel is asked to send again what an earlier process has left unanswered. */
  readonly resend: boolean;
}

export interface NodeStoreOptions {
  /** State directory; default as config/paths.ts says. */
  readonly root?: string | undefined;
  readonly environment: Environment;
  readonly log: Logger;
  readonly downloads: Downloads;
  /** ms from a read that misses until EIO. */
  readonly readDeadlineMs: number;
  /** Called with the number of spans that a reader wants and that are not here. */
  readonly onMiss?: ((spans: number) => void) | undefined;
  readonly jobs?: IndexJobs | undefined;
  readonly keeping?: Keeping | undefined;
}

export interface NodeStore {
  readonly paths: NodePaths;
  readonly state: State;
  readonly layers: LayerStore;
  readonly slots: Semaphore;
  readonly links: LinkTable;
  /** Undefined where connections end with this process. */
  readonly connections: KeptConnections | undefined;
}

/** One image alone may use the line to its registry as far as an image may. */
export function requestsPerLink({ perImage }: Downloads): number {
  return Math.max(8, perImage);
}

/** Errors: ConfigError when the state directory cannot be used, StateError. */
export async function openNodeStore(options: NodeStoreOptions): Promise<NodeStore> {
  const { root, environment, log, downloads, readDeadlineMs, onMiss, jobs, keeping } = options;
  const paths = await preparePaths({ root, environment, uid: process.getuid?.() ?? 0 });
  const directories = await LayerDirectories.open(paths.root, paths.runDir);
  const state = openState(paths.root);
  try {
    const slots = fetchSlots(downloads.perNode);
    const links = new LinkTable({ requests: requestsPerLink(downloads) });
    const layerLog = log.child({ component: 'layer' });
    const table = state.layers;
    const layers = new LayerStore({ directories, table, slots, links, log: layerLog, readDeadlineMs, onMiss, jobs });
    const connections = await openConnections(keeping, state, paths, log);
    return { paths, state, layers, slots, links, connections };
  } catch (error) {
    state.close();
    throw error;
  }
}

async function openConnections(
  keeping: Keeping | undefined,
  { connections: table }: State,
  { runDir }: NodePaths,
  log: Logger,
): Promise<KeptConnections | undefined> {
  if (keeping === undefined) return undefined;
  const boot = await bootId();
  return await KeptConnections.open({ ...keeping, table, runDir, boot, log: log.child({ component: 'keeper' }) });
}
