// The containerd snapshotter as a part of the daemon.
import type { DaemonConfig } from '../config/schema.ts';
import type { Environment } from '../config/environment.ts';
import type { Logger } from '../observe/log.ts';
import type { DaemonMetrics, Gauges } from '../observe/metrics.ts';
import type { Node } from './node.ts';
import type { SnapshotterReport } from './status-report.ts';

export interface SnapshotterContext {
  readonly config: DaemonConfig;
  readonly environment: Environment;
  /** With its state, and `imageDeps` to open layers by. */
  readonly node: Node;
  readonly metrics: DaemonMetrics;
  readonly log: Logger;
  /** A socket that the service manager has bound; else `snapshotter.socket`, or `<run_dir>/snapshotter.sock`. */
  readonly listenFd: number | undefined;
}

export interface SnapshotterPart {
  status(): SnapshotterReport;
  gauges(): Pick<Gauges, 'snapshots' | 'layers' | 'presentBytes' | 'fuseErrors'>;
  /** Stops serving; mounts and snapshots stay. Idempotent. */
  close(): Promise<void>;
}

/** Serves when it resolves. Undefined when it is switched off. */
export async function startSnapshotter(_context: SnapshotterContext): Promise<SnapshotterPart | undefined> {
  return await Promise.resolve(undefined);
}
