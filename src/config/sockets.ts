import { join } from 'node:path';
import type { DaemonConfig } from './schema.ts';

export interface SocketPaths {
  readonly control: string;
  readonly snapshotter: string;
  readonly cri: string;
  /** Of the process that holds file descriptors. */
  readonly keeper: string;
}

/** Where the daemon listens: what the configuration says, else in its run directory. */
export function socketPaths({ run_dir: runDir, control, snapshotter, credentials }: DaemonConfig): SocketPaths {
  return {
    control: control.socket ?? join(runDir, 'control.sock'),
    snapshotter: snapshotter.socket ?? join(runDir, 'snapshotter.sock'),
    cri: credentials.cri.socket ?? join(runDir, 'image.sock'),
    keeper: join(runDir, 'keeper.sock'),
  };
}
