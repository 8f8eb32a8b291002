// The Snapshots service in a process of its own, to be killed: `node snapshots-process.mjs ROOT SOCKET`. It shows layers that are
// nothing but slots: a chain ID ends in the slot's number.
import { openState } from '../../dist/state/state.js';
import { silentLog } from '../../dist/observe/log.js';
import { serveGrpc } from '../../dist/snapshotter/grpc/serve-grpc.js';
import { addSnapshotsService } from '../../dist/snapshotter/snapshots-service.js';
import { Snapshotter } from '../../dist/snapshotter/snapshotter.js';

const [root, socket] = process.argv.slice(2);
const layers = {
  provide: ({ chainId }) =>
    Promise.resolve({ kind: 'served', slot: Number.parseInt(chainId.slice(-8), 16), image: 'app:1', layer: chainId }),
  directory: (slot) => `${root}/l/${slot.toString(36)}`,
  rootOf: () => Promise.resolve(undefined),
  usage: () => Promise.resolve({ size: 0, inodes: 0 }),
  released: () => {},
  collect: () => Promise.resolve(),
};
const snapshotter = new Snapshotter({
  root,
  table: openState(root).snapshots,
  layers,
  userXattr: false,
  prepareTimeoutMs: 10_000,
  boot: 'this boot',
  syncFilesystem: () => Promise.resolve(),
  log: silentLog(),
});
await serveGrpc({ path: socket }, (server) => addSnapshotsService(server, snapshotter, silentLog()));
process.stdout.write('serving\n');
