// The Snapshots service of one test: a state directory, layers that are plain directories, and a client on its socket.
import path from 'node:path';
import { onTestFinished } from 'vitest';
import { silentLog } from '../../src/observe/log.ts';
import type { Logger } from '../../src/observe/log.ts';
import { serveGrpc } from '../../src/snapshotter/grpc/serve-grpc.ts';
import { addSnapshotsService } from '../../src/snapshotter/snapshots-service.ts';
import { Snapshotter } from '../../src/snapshotter/snapshotter.ts';
import type { SnapshotterOptions } from '../../src/snapshotter/snapshotter.ts';
import { openState } from '../../src/state/state.ts';
import type { State } from '../../src/state/state.ts';
import { DirectoryLayers } from './directory-layers.ts';
import { SnapshotsClient } from './snapshots-client.ts';
import { tempDir } from './tmp.ts';

export interface SnapshotsWorld {
  readonly root: string;
  readonly socket: string;
  readonly state: State;
  readonly layers: DirectoryLayers;
  readonly snapshotter: Snapshotter;
  readonly client: SnapshotsClient;
  /** Stops the service; its state stays. */
  close(): Promise<void>;
}

export interface SnapshotsWorldOptions
  extends Partial<
    Pick<SnapshotterOptions, 'prepareTimeoutMs' | 'onOutcome' | 'userXattr' | 'boot' | 'syncFilesystem'>
  > {
  readonly log?: Logger;
}

/** Closed when the test ends. */
export async function snapshotsWorld(
  options: SnapshotsWorldOptions & { readonly root?: string } = {},
): Promise<SnapshotsWorld> {
  const world = await openSnapshotsWorld(options.root ?? tempDir('peel-snap-'), options);
  onTestFinished(() => world.close());
  return world;
}

/** The same for `beforeAll`: the caller closes it. */
export async function openSnapshotsWorld(root: string, options: SnapshotsWorldOptions = {}): Promise<SnapshotsWorld> {
  const log = options.log ?? silentLog();
  const state = openState(root);
  const layers = new DirectoryLayers(root);
  const snapshotter = new Snapshotter({
    table: state.snapshots,
    layers,
    userXattr: false,
    prepareTimeoutMs: 30_000,
    boot: 'this boot',
    syncFilesystem: async () => {},
    ...options,
    root,
    log,
  });
  const socket = path.join(root, 'containerd.sock');
  const listener = await serveGrpc({ path: socket }, (server) => addSnapshotsService(server, snapshotter, log));
  const client = new SnapshotsClient(socket);
  let closed = false;
  const close = async () => {
    if (closed) return;
    closed = true;
    client.close();
    await listener.close(1000);
    await snapshotter.close();
    layers.close();
    state.close();
  };
  return { root, socket, state, layers, snapshotter, client, close };
}
