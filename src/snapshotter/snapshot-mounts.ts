// The mounts of the layers that snapshots show, with as little around them as serving needs: after a restart containers wait for them.
import { kernelRefusal } from '../image/kernel-probe.ts';
import type { KeptConnections } from '../image/kept-connections.ts';
import { LayerMounter } from '../image/layer-mounter.ts';
import type { LayerTransportChoice } from '../image/layer-mounter.ts';
import { LayerMounts } from '../image/layer-mounts.ts';
import { LayerTrees } from '../image/layer-trees.ts';
import type { LazyLayers } from '../image/lazy-layers.ts';
import { OpenLayers } from '../image/open-layers.ts';
import type { OpenOrigin } from '../image/origin.ts';
import { fuseDeviceRefusal } from '../image/transports/fuse-device.ts';
import type { IndexJobs } from '../layer/index-job.ts';
import type { LayerStore } from '../layer/layer-store.ts';
import type { Logger } from '../observe/log.ts';
import type { State } from '../state/state.ts';

export interface SnapshotMountsDeps {
  readonly root: string;
  readonly runDir: string;
  readonly state: State;
  readonly store: LayerStore;
  readonly openOrigin: OpenOrigin;
  /** Where FUSE connections outlive this process. */
  readonly connections?: KeptConnections | undefined;
  /** Who compiles trees; default threads of its own. */
  readonly jobs?: IndexJobs | undefined;
  readonly transport: LayerTransportChoice;
  /** Requests for one restored layer at once. */
  readonly downloads: number;
  /** What goes on behind them; asked for when they are restored. */
  readonly lazy: () => LazyLayers | undefined;
  readonly log: Logger;
}

export interface SnapshotMounts {
  readonly open: OpenLayers;
  readonly trees: LayerTrees;
  readonly mounts: LayerMounts;
}

/** What an earlier process served is served when it resolves; the rest is restored by whoever has it. Errors: those of the state directory. */
export async function openSnapshotMounts(deps: SnapshotMountsDeps): Promise<SnapshotMounts> {
  const { root, runDir, state, store, openOrigin, connections, jobs, transport, downloads, lazy, log } = deps;
  const open = new OpenLayers();
  const trees = new LayerTrees(root, jobs);
  const mounter = new LayerMounter({
    transport,
    kernelRefusal: async () => fuseDeviceRefusal() ?? (await kernelRefusal(root, runDir)),
    connections,
    log,
  });
  const mounts = await LayerMounts.open({ root, state, store, open, trees, mounter, openOrigin, lazy, log, downloads });
  await mounts.adopt(state.slots.shown());
  return { open, trees, mounts };
}
