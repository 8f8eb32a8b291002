import type { Mount } from '../gen/containerd/types/mount_pb.ts';
import { Kind, Snapshots } from '../gen/containerd/services/snapshots/v1/snapshots_pb.ts';
import type { Labels } from '../layer-provider.ts';
import { isContainerdError } from './errors.ts';
import type { CallOptions, ContainerdSession } from './session.ts';

/** The snapshots of one snapshotter, as containerd's clients see them: by names of their namespace. */
export class SnapshotService {
  readonly snapshotter: string;
  readonly #session: ContainerdSession;

  constructor(session: ContainerdSession, snapshotter: string) {
    this.#session = session;
    this.snapshotter = snapshotter;
  }

  /** Labels of the committed snapshot of that name, where there is one. Errors: ERR_CONTAINERD_ARGUMENT when there is no such snapshotter. */
  async committed(name: string, options?: CallOptions): Promise<Labels | undefined> {
    const { snapshotter } = this;
    try {
      const { info } = await this.#session.call(
        Snapshots.method.stat,
        `stat the snapshot ${name} of ${snapshotter}`,
        { snapshotter, key: name },
        options,
      );
      return info?.kind === Kind.COMMITTED ? info.labels : undefined;
    } catch (error) {
      if (isContainerdError(error, 'ERR_CONTAINERD_NOT_FOUND')) return undefined;
      throw error;
    }
  }

  /** How the new snapshot is to be mounted. Errors: ERR_CONTAINERD_EXISTS, also for what the label `snapshot.ref` names. */
  async prepare(
    request: { readonly key: string; readonly parent: string; readonly labels: Labels },
    options?: CallOptions,
  ): Promise<readonly Mount[]> {
    const { snapshotter } = this;
    const { mounts } = await this.#session.call(
      Snapshots.method.prepare,
      `prepare the snapshot ${request.key} of ${snapshotter}`,
      { snapshotter, key: request.key, parent: request.parent, labels: { ...request.labels } },
      options,
    );
    return mounts;
  }

  /** Errors: ERR_CONTAINERD_EXISTS when there is a snapshot `name`; the one of `key` stays then. */
  async commit(
    request: { readonly name: string; readonly key: string; readonly labels: Labels },
    options?: CallOptions,
  ): Promise<void> {
    const { snapshotter } = this;
    await this.#session.call(
      Snapshots.method.commit,
      `commit the snapshot ${request.name} of ${snapshotter}`,
      { snapshotter, name: request.name, key: request.key, labels: { ...request.labels } },
      options,
    );
  }

  /** Nothing when there is none. */
  async remove(key: string, options?: CallOptions): Promise<void> {
    const { snapshotter } = this;
    try {
      const what = `remove the snapshot ${key} of ${snapshotter}`;
      await this.#session.call(Snapshots.method.remove, what, { snapshotter, key }, options);
    } catch (error) {
      if (!isContainerdError(error, 'ERR_CONTAINERD_NOT_FOUND')) throw error;
    }
  }
}
