// What one namespace of a containerd holds, asked over its API.
import { Content } from '../../src/snapshotter/gen/containerd/services/content/v1/content_pb.ts';
import { Images } from '../../src/snapshotter/gen/containerd/services/images/v1/images_pb.ts';
import { Leases } from '../../src/snapshotter/gen/containerd/services/leases/v1/leases_pb.ts';
import { Kind, Snapshots } from '../../src/snapshotter/gen/containerd/services/snapshots/v1/snapshots_pb.ts';
import { ContainerdSession } from '../../src/snapshotter/containerd/session.ts';
import type { Containerd } from './containerd.ts';
import { run, runOk } from './run.ts';

export interface NamespaceState {
  /** Labels by digest. */
  readonly content: Readonly<Record<string, Readonly<Record<string, string>>>>;
  /** Target and labels by name. */
  readonly images: Readonly<Record<string, object>>;
  /** Labels by id. */
  readonly leases: Readonly<Record<string, Readonly<Record<string, string>>>>;
  /** Names of unfinished writes, and the bytes they have. */
  readonly writes: Readonly<Record<string, number>>;
  /** By name. */
  readonly snapshots: Readonly<
    Record<
      string,
      { readonly parent: string; readonly committed: boolean; readonly labels: Readonly<Record<string, string>> }
    >
  >;
}

export async function namespaceState(
  { socket }: Containerd,
  namespace: string,
  snapshotter: string,
): Promise<NamespaceState> {
  const session = await ContainerdSession.open({ address: socket, namespace });
  try {
    const content: [string, Record<string, string>][] = [];
    for await (const { info } of session.stream(Content.method.list, 'list', {}))
      content.push(...info.map(({ digest, labels }): [string, Record<string, string>] => [digest, labels]));
    const snapshots: [string, { parent: string; committed: boolean; labels: Record<string, string> }][] = [];
    for await (const { info } of session.stream(Snapshots.method.list, 'list', { snapshotter }))
      for (const { name, parent, kind, labels } of info)
        snapshots.push([name, { parent, committed: kind === Kind.COMMITTED, labels }]);
    const { images } = await session.call(Images.method.list, 'list', {});
    const { leases } = await session.call(Leases.method.list, 'list', {});
    const { statuses } = await session.call(Content.method.listStatuses, 'list', {});
    return {
      content: Object.fromEntries(content),
      images: Object.fromEntries(
        images.map(({ name, target, labels }) => [
          name,
          { mediaType: target?.mediaType, digest: target?.digest, size: target?.size, labels },
        ]),
      ),
      leases: Object.fromEntries(leases.map(({ id, labels }) => [id, labels])),
      writes: Object.fromEntries(statuses.map(({ ref, offset }) => [ref, Number(offset)])),
      snapshots: Object.fromEntries(snapshots),
    };
  } finally {
    session.close();
  }
}

/** Makes containerd collect its garbage now: the end of a lease that waits for it does. */
export async function collectGarbage({ socket }: Containerd, namespace: string): Promise<void> {
  const session = await ContainerdSession.open({ address: socket, namespace });
  try {
    const id = 'collect';
    await session.call(Leases.method.create, 'create', { id });
    await session.call(Leases.method.delete, 'delete', { id, sync: true });
  } finally {
    session.close();
  }
}

/** Shows a committed snapshot at `dir`, safe from containerd's garbage collector, for as long as `look` takes. */
export async function withSnapshotMounted(
  { socket }: Containerd,
  snapshot: { readonly namespace: string; readonly snapshotter: string; readonly name: string; readonly dir: string },
  look: () => Promise<void>,
): Promise<void> {
  const { namespace, snapshotter, name, dir } = snapshot;
  const session = await ContainerdSession.open({ address: socket, namespace });
  const leased = session.withLease('look');
  try {
    await session.call(Leases.method.create, 'create', { id: 'look' });
    const view = { snapshotter, key: 'look', parent: name };
    const { mounts } = await leased.call(Snapshots.method.view, 'view', view);
    const [mount] = mounts;
    if (mount === undefined) throw new Error('nothing to mount');
    await runOk('mount', ['-t', mount.type, '-o', mount.options.join(','), mount.source, dir]);
    await look();
  } finally {
    await run('umount', [dir]);
    await session.call(Snapshots.method.remove, 'remove', { snapshotter, key: 'look' });
    await session.call(Leases.method.delete, 'delete', { id: 'look' });
    leased.close();
    session.close();
  }
}
