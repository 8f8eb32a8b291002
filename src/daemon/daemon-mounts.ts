// Mounts of people that the daemon serves: made, made again after a restart, and left behind when the daemon stops.
import { errorMessage } from '../layer/errors.ts';
import { mountPath } from '../image/mount-target.ts';
import { isRunning } from '../image/process-identity.ts';
import type { ServedMount, ServeMountOptions } from '../image/serve-mount.ts';
import type { Logger } from '../observe/log.ts';
import { parseReference } from '../oci/reference.ts';
import { forEach } from '../util/for-each.ts';
import { KeyedLock } from '../util/keyed-lock.ts';
import { DaemonError } from './errors.ts';
import type { MountRow } from '../state/mounts.ts';
import type { Node } from './node.ts';
import type { DaemonMountStatus, LayerLine } from './status-report.ts';

export type DaemonMountOptions = Omit<ServeMountOptions, 'logPath' | 'daemon'>;

const remakesAtOnce = 8;

export class DaemonMounts {
  readonly #node: Node;
  readonly #log: Logger;
  readonly #served = new Map<string, ServedMount>();
  readonly #locks = new KeyedLock<string>();
  /** Being made, or made again. */
  readonly #pending = new Set<Promise<unknown>>();
  /** Of mounts that are over. */
  #pastErrors = 0;
  #stopping = false;

  constructor(node: Node, log: Logger) {
    this.#node = node;
    this.#log = log;
  }

  /** `options.dir` is absolute. Errors: ImageError; ERR_DAEMON_NESTED; the signal's reason. */
  async mount(options: DaemonMountOptions): Promise<ServedMount> {
    return await this.#tracked(this.#mount(options));
  }

  async #tracked<T>(work: Promise<T>): Promise<T> {
    this.#pending.add(work);
    try {
      return await work;
    } finally {
      this.#pending.delete(work);
    }
  }

  async #mount(options: DaemonMountOptions): Promise<ServedMount> {
    this.#refuseNested(options);
    const dir = await mountPath(options.dir, ': create the directory first');
    const mount = await this.#locks.run(
      dir,
      async () => await this.#node.mount({ ...options, dir, logPath: undefined, daemon: true }),
      { signal: options.signal },
    );
    this.#keep(mount);
    if (this.#stopping || options.signal?.aborted) {
      await mount.unmount();
      options.signal?.throwIfAborted();
      throw new DaemonError('ERR_DAEMON_STOPPING', 'the daemon is stopping');
    }
    return mount;
  }

  /** Those of an earlier daemon. What cannot be made again stays recorded with the reason; after `signal` nothing more is begun. */
  async remakeAll(options: { readonly timeoutMs: number; readonly signal?: AbortSignal | undefined }): Promise<void> {
    await this.#tracked(this.#remakeAll(options));
  }

  async #remakeAll({
    timeoutMs,
    signal: stop,
  }: {
    readonly timeoutMs: number;
    readonly signal?: AbortSignal | undefined;
  }): Promise<void> {
    const limit = AbortSignal.timeout(timeoutMs);
    const signal = stop === undefined ? limit : AbortSignal.any([stop, limit]);
    const isStopped = () => stop?.aborted === true;
    const mounts = await this.#node.mounts().catch((error: unknown) => {
      this.#log.error({ error: errorMessage(error) }, 'the mounts of an earlier daemon cannot be found out');
      return [];
    });
    const lost = mounts.filter(({ daemon, id }) => daemon && !this.#served.has(id));
    await forEach(lost, remakesAtOnce, async (row) => {
      if (isStopped() || (await isRunning(row))) return;
      try {
        this.#keep(await this.#node.remount(row, { signal }));
      } catch (error) {
        // It waits for the next daemon as it has waited for this one.
        if (isStopped()) return;
        const why = limit.aborted ? 'it took too long' : errorMessage(error);
        this.#log.error({ mount: row.id, dir: row.dir, error: why }, 'mount cannot be made again');
        this.#record(row, why);
      }
    });
  }

  #record({ id, dir }: MountRow, why: string): void {
    try {
      this.#node.state.mounts.fail(id, why);
    } catch (error) {
      // On a full disk, which is no reason not to serve the rest.
      this.#log.error({ mount: id, dir, error: errorMessage(error) }, 'that a mount failed cannot be recorded');
    }
  }

  async list(): Promise<DaemonMountStatus[]> {
    const mounts = await this.#node.mounts();
    return mounts.map((mount) => ({ ...mount, serving: linesOf(this.#served.get(mount.id)) }));
  }

  /** Each layer once, however many mounts show it. */
  presentBytes(): number {
    const found = new Map<string, number>();
    for (const mount of this.#served.values())
      for (const { descriptor, presentBytes } of mount.layers()) found.set(descriptor.digest, presentBytes);
    return [...found.values()].reduce((sum, bytes) => sum + bytes, 0);
  }

  counts(): { readonly serving: number; readonly failed: number } {
    const failed = this.#node.state.mounts.list().filter(({ error }) => error !== undefined).length;
    return { serving: this.#served.size, failed };
  }

  fuseErrors(): number {
    return [...this.#served.values()].reduce((sum, mount) => sum + mount.errors(), this.#pastErrors);
  }

  /** Stops serving; mounts, rows and changes stay for the next daemon. */
  async leaveAll(): Promise<void> {
    this.#stopping = true;
    await Promise.allSettled(this.#pending);
    const leave = async (mount: ServedMount) => {
      try {
        await mount.leave();
      } catch (error) {
        this.#log.warn({ dir: mount.row.dir, error: errorMessage(error) }, 'mount could not be left in order');
      }
    };
    await Promise.all([...this.#served.values()].map(leave));
  }

  #keep(mount: ServedMount): void {
    this.#served.set(mount.row.id, mount);
    const end = async () => {
      const { reason } = await mount.closed;
      this.#pastErrors += mount.errors();
      this.#served.delete(mount.row.id);
      // The connection broke: what is still mounted answers nobody.
      if (reason !== 'unmounted' && !this.#stopping) await mount.unmount();
    };
    end().catch((error: unknown) =>
      this.#log.warn({ dir: mount.row.dir, error: errorMessage(error) }, 'mount could not be put away'),
    );
  }

  /** A process that looks into its own mount may wait for itself. Compares text: to resolve a path would be to look. */
  #refuseNested({ dir, upper, reference }: DaemonMountOptions): void {
    const parsed = parseReference(reference);
    const onDisk = parsed.kind === 'layout' ? parsed.dir : parsed.kind === 'archive' ? parsed.file : undefined;
    for (const path of [dir, upper, onDisk]) {
      const outer = [...this.#served.values()].find(({ row }) => path?.startsWith(`${row.dir}/`));
      if (outer !== undefined)
        throw new DaemonError('ERR_DAEMON_NESTED', `${path} is below ${outer.row.dir}, which the daemon itself serves`);
    }
  }
}

function linesOf(mount: ServedMount | undefined): LayerLine[] {
  return (mount?.layers() ?? []).map(({ descriptor, serving, reason, presentBytes, streamSize, lastError }) => ({
    layer: descriptor.digest,
    serving: serving === 'complete' ? 'complete' : 'lazy',
    why: reason,
    presentBytes,
    streamSize,
    lastError,
  }));
}
