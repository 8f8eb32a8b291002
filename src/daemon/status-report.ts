// What the daemon says of itself: the answer of GET /v1/status, and what `peel status` prints.
import type { KeeperStatus } from './keeper-status.ts';
import type { UnpackStatus } from '../unpack/unpacker.ts';
import type { RegistryEndpoint } from './origins.ts';
import type { MountStatus } from '../image/umount.ts';

export interface StatusReport {
  readonly version: string;
  readonly pid: number;
  /** ms since the epoch. */
  readonly startedAt: number;
  readonly root: string;
  readonly runDir: string;
  /** Keys of the configuration that differ from what the daemon started with and count only after a restart. */
  readonly restartNeeded: readonly string[];
  /** What else is wrong with the configuration, as sentences. */
  readonly warnings: readonly string[];
  /** What holds its file descriptors while it is replaced. */
  readonly keeper?: KeeperStatus | undefined;
  /** What of the node's state is left out or not trusted, as lines. */
  readonly degraded?: readonly string[] | undefined;
  /** By directory; also those of other processes. */
  readonly mounts: readonly DaemonMountStatus[];
  readonly snapshotter?: SnapshotterReport | undefined;
  /** Leases and jobs of layers that are unpacked. */
  readonly unpacking?: UnpackStatus | undefined;
  /** Of the registries that were asked for something, mirrors included. */
  readonly registries?: readonly RegistryEndpoint[] | undefined;
}

export interface DaemonMountStatus extends MountStatus {
  /** Of the mounts that this daemon serves, lowest first. */
  readonly serving: readonly LayerLine[];
}

/** `unpacked`: its files lie in a directory; `deferred`: containerd was told to unpack them and has not yet. */
export type Serving = 'lazy' | 'complete' | 'unpacked' | 'deferred';

export interface LayerLine {
  readonly layer: string;
  readonly serving: Serving;
  /** One phrase. */
  readonly why: string;
  /** Bytes of the layer stream, and how many of them are on the node. */
  readonly presentBytes?: number | undefined;
  readonly streamSize?: number | undefined;
  readonly lastError?: string | undefined;
}

export interface SnapshotterReport {
  readonly socket: string;
  readonly layers: readonly SnapshotLayerLine[];
  /** How many layers were left to containerd, by the code of the reason. */
  readonly deferrals: Readonly<Record<string, number>>;
  /** By kind: view, active, committed. */
  readonly snapshots: Readonly<Record<string, number>>;
}

export interface SnapshotLayerLine extends LayerLine {
  /** Undefined for a layer that is unpacked. */
  readonly slot?: number | undefined;
  /** Who unpacked it, or was told to. */
  readonly unpackedBy?: 'peel' | 'containerd' | undefined;
  /** References of images that have it. */
  readonly images: readonly string[];
  readonly transport?: string | undefined;
}
