import type { SnapshotRow, SnapshotTable } from '../state/snapshots.ts';
import { OnceMap } from '../util/once-map.ts';
import { Semaphore } from '../util/semaphore.ts';
import type { SnapshotDirectories } from './directories.ts';
import { diskUsage } from './disk-usage.ts';
import { SnapshotError } from './errors.ts';
import type { DiskUsage, LayerProvider } from './layer-provider.ts';

const walksAtOnce = 2;

export interface UsageMeterOptions {
  readonly table: SnapshotTable;
  readonly directories: SnapshotDirectories;
  readonly layers: LayerProvider;
}

/** Measures snapshots: an active one whenever it is asked for, a committed directory once. */
export class UsageMeter {
  readonly #options: UsageMeterOptions;
  readonly #slots = new Semaphore(walksAtOnce);
  readonly #walks = new OnceMap<string, DiskUsage>();

  constructor(options: UsageMeterOptions) {
    this.#options = options;
  }

  /** Errors: ERR_SNAPSHOT_UNKNOWN when it goes meanwhile; the signal's reason; errno codes. */
  async usage(row: SnapshotRow, options: { readonly signal: AbortSignal }): Promise<DiskUsage> {
    if (row.slot !== undefined) return await this.#options.layers.usage(row.slot);
    if (row.kind === 'view') return { size: 0, inodes: 0 };
    if (row.size !== undefined && row.inodes !== undefined) return { size: row.size, inodes: row.inodes };
    // A walk that began before a commit is not what the committed snapshot takes.
    const key = `${row.kind} ${row.id}`;
    return await this.#walks.run(key, (signal) => this.#measure(row, signal), options);
  }

  async #measure(row: SnapshotRow, signal: AbortSignal): Promise<DiskUsage> {
    const { table, directories } = this.#options;
    try {
      const usage = await this.#slots.run(() => diskUsage(directories.of(row.id).fs, { signal }), { signal });
      if (row.kind === 'committed') table.putUsage(row.id, usage);
      return usage;
    } catch (error) {
      if (table.get(row.key)?.id === row.id || signal.aborted) throw error;
      throw new SnapshotError('ERR_SNAPSHOT_UNKNOWN', `snapshot ${JSON.stringify(row.key)} does not exist any more`, {
        cause: error,
      });
    }
  }
}
