import { errorMessage } from '../layer/errors.ts';
import type { Logger } from '../observe/log.ts';
import type { SnapshotTable } from '../state/snapshots.ts';

export interface SnapshotSyncOptions {
  readonly table: Pick<SnapshotTable, 'unsynced' | 'synced'>;
  /** State directory. */
  readonly root: string;
  /** Of the machine, as it runs now. */
  readonly boot: string;
  /** Writes all of the filesystem at `path` to disk. */
  readonly syncFilesystem: (path: string) => Promise<void>;
  readonly log: Logger;
  /** ms without a new directory before it begins, and most of them behind the first one; defaults 2 and 15 seconds. */
  readonly quietMs?: number | undefined;
  readonly atMostMs?: number | undefined;
}

const quietMs = 2000;
const atMostMs = 15_000;
/** ms until what failed is tried again. */
const againMs = 30_000;

/**
 * Layers that were unpacked are told of before their files are on disk, with a mark; this writes them there some time later, those of one
 * pull together, and takes the marks away. Marks of an earlier boot stay: what those directories have is not known.
 */
export class SnapshotSync {
  readonly #o: SnapshotSyncOptions;
  #timer: NodeJS.Timeout | undefined;
  /** When the wait began; ms of the process's clock. */
  #since: number | undefined;
  #running: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(options: SnapshotSyncOptions) {
    this.#o = options;
    // What a killed process left.
    if (options.table.unsynced(options.boot).length > 0) this.written();
  }

  /** Something has a mark. */
  written(): void {
    if (this.#closed) return;
    const now = performance.now();
    this.#since ??= now;
    const latest = this.#since + (this.#o.atMostMs ?? atMostMs);
    this.#flushIn(Math.min(this.#o.quietMs ?? quietMs, Math.max(latest - now, 0)));
  }

  /** Does it now. Never rejects: what fails is logged, and done the next time. */
  flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#since = undefined;
    this.#running = this.#running.then(() => this.#flush());
    return this.#running;
  }

  /** Does it a last time. Idempotent. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.flush();
  }

  async #flush(): Promise<void> {
    const { table, root, boot, syncFilesystem, log } = this.#o;
    try {
      const ids = table.unsynced(boot);
      if (ids.length === 0) return;
      await syncFilesystem(root);
      table.synced(ids);
    } catch (error) {
      log.warn({ root, error: errorMessage(error) }, 'unpacked layers could not be written to disk yet');
      if (!this.#closed) this.#flushIn(againMs);
    }
  }

  #flushIn(ms: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.flush(), ms);
    this.#timer.unref();
  }
}
