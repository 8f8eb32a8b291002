// The Snapshots service over real layers of a registry in this process, all of them unpacked: nothing is mounted.
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { onTestFinished } from 'vitest';
import { configSchema } from '../../src/config/schema.ts';
import { openUnpacker } from '../../src/daemon/unpacking.ts';
import { silentLog } from '../../src/observe/log.ts';
import { SnapshotLayers } from '../../src/snapshotter/snapshot-layers.ts';
import type { SnapshotLayersConfig, SnapshotLayersDeps } from '../../src/snapshotter/snapshot-layers.ts';
import { Snapshotter } from '../../src/snapshotter/snapshotter.ts';
import { serveGrpc } from '../../src/snapshotter/grpc/serve-grpc.ts';
import { addSnapshotsService } from '../../src/snapshotter/snapshots-service.ts';
import type { State } from '../../src/state/state.ts';
import type { ImageLab } from './image-lab.ts';
import { SnapshotsClient } from './snapshots-client.ts';
import { WatchedUnpacker } from './watched-unpacker.ts';

export interface UnpackingWorld {
  readonly root: string;
  readonly socket: string;
  readonly state: State;
  readonly unpacker: WatchedUnpacker;
  readonly layers: SnapshotLayers;
  readonly snapshotter: Snapshotter;
  readonly client: SnapshotsClient;
}

export interface UnpackingOptions
  extends Partial<Pick<SnapshotLayersDeps, 'localBlobs' | 'onBuilt' | 'sessionMs'>>,
    Partial<Pick<SnapshotLayersConfig, 'mode' | 'formats'>> {
  readonly prepareTimeoutMs?: number;
}

/** Closed when the test ends. */
export async function unpackingWorld(
  lab: ImageLab,
  {
    mode = 'eager',
    formats = { peel: true, soci_v1: true, soci_v2: true },
    prepareTimeoutMs = 30_000,
    ...deps
  }: UnpackingOptions = {},
): Promise<UnpackingWorld> {
  const root = path.join(lab.dir, 'unpacking');
  mkdirSync(root, { recursive: true });
  const node = await lab.node({ root });
  const { content, openOrigin, layers: store } = node.imageDeps;
  const { state } = node;
  const [log, userXattr] = [silentLog(), false];
  const config = configSchema.parse({ unpack: { reserve: '1MiB' } });
  const unpacker = new WatchedUnpacker(await openUnpacker({ node, config: () => config, log }), root);
  const layers = await SnapshotLayers.open({
    root,
    runDir: node.paths.runDir,
    state,
    store,
    content,
    openOrigin,
    userXattr,
    unpacker,
    log,
    config: { mode, transport: 'auto', formats, choice: 'newest', wholeLayerLimit: 10, downloadsPerImage: 8 },
    ...deps,
  });
  const snapshotter = new Snapshotter({
    root,
    table: state.snapshots,
    layers,
    userXattr,
    prepareTimeoutMs,
    log,
    boot: 'this boot',
    syncFilesystem: async () => {},
  });
  const socket = path.join(root, 'containerd.sock');
  const listener = await serveGrpc({ path: socket }, (server) => addSnapshotsService(server, snapshotter, log));
  const client = new SnapshotsClient(socket);
  onTestFinished(async () => {
    client.close();
    await listener.close(1000);
    await layers.close();
    await unpacker.close();
    await snapshotter.close();
  });
  return { root, socket, state, unpacker, layers, snapshotter, client };
}
