import { create } from '@bufbuild/protobuf';
import type { MessageShape } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { status } from '@grpc/grpc-js';
import type { Server, ServerWritableStream } from '@grpc/grpc-js';
import type { Logger } from '../observe/log.ts';
import type { SnapshotRow } from '../state/snapshots.ts';
import { unpackedLabel } from './committed-layer.ts';
import { SnapshotError } from './errors.ts';
import {
  InfoSchema,
  Kind,
  ListSnapshotsResponseSchema,
  Snapshots,
} from './gen/containerd/services/snapshots/v1/snapshots_pb.ts';
import type { Info, ListSnapshotsRequest } from './gen/containerd/services/snapshots/v1/snapshots_pb.ts';
import { serviceDefinition } from './grpc/service-definition.ts';
import { signalOf, unaryHandler } from './grpc/unary-handler.ts';
import type { Mount } from './mounts.ts';
import { namespaceOf } from './namespace.ts';
import type { Snapshotter } from './snapshotter.ts';
import { grpcStatus } from './status.ts';
import type { GrpcStatus } from './status.ts';

type ListResponse = MessageShape<typeof ListSnapshotsResponseSchema>;

/** containerd takes messages of up to 16 MiB; one snapshot has about 1 MiB of labels at most. */
const batchBytes = 1 << 20;

/** containerd.services.snapshots.v1.Snapshots on `server`. */
export function addSnapshotsService(server: Server, snapshotter: Snapshotter, log: Logger): void {
  const { method } = Snapshots;
  const failOf = (name: string) => (error: unknown) => failure(name, error, log);
  server.addService(serviceDefinition(Snapshots), {
    Prepare: unaryHandler(
      method.prepare,
      async (request, { signal, metadata }) => {
        const mounts = await snapshotter.prepare(request, { signal, namespace: namespaceOf(metadata, request.key) });
        return { mounts: mounts.map(mountMessage) };
      },
      failOf('Prepare'),
    ),
    View: unaryHandler(
      method.view,
      async (request, options) => ({ mounts: (await snapshotter.view(request, options)).map(mountMessage) }),
      failOf('View'),
    ),
    Mounts: unaryHandler(
      method.mounts,
      ({ key }) => ({ mounts: snapshotter.mounts(key).map(mountMessage) }),
      failOf('Mounts'),
    ),
    Commit: unaryHandler(method.commit, (request) => (snapshotter.commit(request), {}), failOf('Commit')),
    Remove: unaryHandler(method.remove, ({ key }) => (snapshotter.remove(key), {}), failOf('Remove')),
    Stat: unaryHandler(method.stat, ({ key }) => ({ info: infoOf(snapshotter.stat(key)) }), failOf('Stat')),
    Update: unaryHandler(
      method.update,
      ({ info, updateMask }) => {
        if (info === undefined) throw new SnapshotError('ERR_SNAPSHOT_ARGUMENT', 'an update without a snapshot');
        const update = { labels: info.labels, paths: updateMask?.paths ?? [] };
        return { info: infoOf(snapshotter.update(info.name, update)) };
      },
      failOf('Update'),
    ),
    List: (call: ServerWritableStream<ListSnapshotsRequest, ListResponse>) => {
      list(snapshotter, call).catch((error: unknown) => call.emit('error', failure('List', error, log)));
    },
    Usage: unaryHandler(
      method.usage,
      async ({ key }, options) => {
        const { size, inodes } = await snapshotter.usage(key, options);
        return { size: BigInt(size), inodes: BigInt(inodes) };
      },
      failOf('Usage'),
    ),
    Cleanup: unaryHandler(
      method.cleanup,
      async (_request, options) => (await snapshotter.cleanup(options), {}),
      failOf('Cleanup'),
    ),
  });
}

/** What went wrong inside is for the log; the client learns where to look. */
function failure(method: string, error: unknown, log: Logger): GrpcStatus {
  const known = grpcStatus(error);
  if (known !== undefined) return known;
  if (error instanceof DOMException && error.name === 'AbortError') {
    return { code: status.CANCELLED, details: error.message };
  }
  log.error({ method, error }, 'a call of containerd failed');
  return { code: status.INTERNAL, details: `${method} failed; the log of peel's daemon says why` };
}

async function list(
  snapshotter: Snapshotter,
  call: ServerWritableStream<ListSnapshotsRequest, ListResponse>,
): Promise<void> {
  const signal = signalOf(call);
  let batch: Info[] = [];
  let bytes = 0;
  const send = async () => {
    if (!call.write(create(ListSnapshotsResponseSchema, { info: batch }))) await drained(call, signal);
    batch = [];
    bytes = 0;
  };
  for (const row of snapshotter.list(call.request.filters)) {
    const info = infoOf(row);
    batch.push(info);
    bytes += sizeOf(info);
    if (bytes >= batchBytes) await send();
  }
  if (batch.length > 0) await send();
  call.end();
}

function drained(call: ServerWritableStream<unknown, unknown>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const gone = () => reject(signal.reason as Error);
    if (signal.aborted) {
      gone();
      return;
    }
    signal.addEventListener('abort', gone, { once: true });
    call.once('drain', () => {
      signal.removeEventListener('abort', gone);
      resolve();
    });
  });
}

function sizeOf({ name, parent, labels }: Info): number {
  const texts = [name, parent, ...Object.entries(labels).flat()];
  return texts.reduce((sum, text) => sum + Buffer.byteLength(text) + 4, 32);
}

const kinds = { view: Kind.VIEW, active: Kind.ACTIVE, committed: Kind.COMMITTED } as const;

function infoOf(row: SnapshotRow): Info {
  // Ours, whatever a client has set.
  const { [unpackedLabel]: _theirs, ...labels } = row.labels;
  return create(InfoSchema, {
    name: row.key,
    parent: row.parent?.key ?? '',
    kind: kinds[row.kind],
    createdAt: timestampFromMs(row.createdAt),
    updatedAt: timestampFromMs(row.updatedAt),
    labels: row.unpacked ? { ...labels, [unpackedLabel]: 'true' } : labels,
  });
}

function mountMessage({ options, ...mount }: Mount) {
  return { ...mount, options: [...options] };
}
