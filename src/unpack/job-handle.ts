import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { errorCode, errorMessage } from '../layer/errors.ts';
import type { UnpackJobChange, UnpackJobRow, UnpackJobState, UnpackJobTable } from '../state/unpack-jobs.ts';
import type { AppliedLayers } from './apply/layer-applier.ts';
import { UnpackError } from './errors.ts';
import type { FolderLock } from './folder-lock.ts';
import type { JobFolders } from './job-folders.ts';

export interface JobHandleParts {
  readonly table: UnpackJobTable;
  readonly folders: JobFolders;
  /** The boot of this machine, as /proc says. */
  readonly boot: string;
  /** Once, when the handle gives its folder up. */
  readonly onClose: (handle: JobHandle) => void;
}

const longestCause = 500;

/**
 * A job that this process works on: nobody else gets its folder until the handle is closed. Its facts are in the database alone, as `claim`
 * may be part of a transaction that fails later.
 */
export class JobHandle implements Disposable {
  readonly job: number;
  /** Something of an earlier attempt may be in the folder. */
  readonly resumed: boolean;
  readonly #parts: JobHandleParts;
  readonly #lock: FolderLock;
  /** Bytes of the blob that are here, for people. */
  received = 0;

  constructor(parts: JobHandleParts, job: number, lock: FolderLock, options: { readonly resumed: boolean }) {
    this.job = job;
    this.resumed = options.resumed;
    this.#parts = parts;
    this.#lock = lock;
  }

  get folder(): string {
    return this.#parts.folders.of(this.job);
  }

  /** Where the tree is made; empty when the job is begun. */
  get fsDir(): string {
    return this.#parts.folders.treeOf(this.job);
  }

  /** Whether nobody else gets the folder. */
  get isOpen(): boolean {
    return this.#lock.held;
  }

  get hasTree(): boolean {
    return this.#parts.folders.hasTree(this.job);
  }

  /** Errors: ERR_UNPACK_JOB_UNKNOWN. */
  get state(): UnpackJobState {
    return this.row().state;
  }

  /** Of a job that is done. Errors: ERR_UNPACK_JOB_UNKNOWN. */
  get applied(): AppliedLayers {
    const { implied = [], hiding = [] } = this.row();
    return { implied, hiding };
  }

  /** False when the machine may have lost parts of the folder since they were written. Errors: ERR_UNPACK_JOB_UNKNOWN. */
  get ofThisBoot(): boolean {
    return this.row().boot === this.#parts.boot;
  }

  /** Errors: ERR_UNPACK_JOB_UNKNOWN. */
  row(): UnpackJobRow {
    const row = this.#parts.table.get(this.job);
    if (row !== undefined) return row;
    throw new UnpackError('ERR_UNPACK_JOB_UNKNOWN', `there is no unpack job ${this.job}`);
  }

  /** The tree is whole and verified. Errors: ERR_UNPACK_JOB_STATE unless it is in progress. */
  finished({ implied, hiding }: AppliedLayers): void {
    this.#change('finished', ['in_progress'], { state: 'done', implied, hiding, boot: this.#parts.boot });
  }

  /**
   * Gives the tree to `take`, which moves it and does not wait. What `take` writes to the database and that the job is claimed are on disk
   * together when this returns, or with the transaction around it. Fails with the job as it was; if the tree was moved and not moved back,
   * the job is begun anew by the next who asks.
   * Errors: ERR_UNPACK_NOT_CLAIMABLE, ERR_UNPACK_EXPIRED, ERR_UNPACK_CANCELLED; those of `take`.
   */
  claim<T>(take: (fsDir: string) => T): T {
    const { table, folders, boot } = this.#parts;
    return table.durably(() => {
      const { state } = this.row();
      if (state !== 'done' || !this.#lock.held || !folders.hasTree(this.job)) throw this.#notClaimable(state);
      const taken = take(this.fsDir);
      this.#change('claimed', ['done'], { state: 'claimed', boot });
      return taken;
    });
  }

  /** Nothing writes in the folder any more; it is given up, and what is in it stays for the next who begins the job. Errors: ERR_UNPACK_JOB_STATE. */
  fail(error: unknown): void {
    this.#end('failed', ['in_progress'], { code: errorCode(error), cause: oneLine(errorMessage(error)) });
  }

  /** As `fail`: nobody wants the layer any more. `reason`: for people. Errors: ERR_UNPACK_JOB_STATE. */
  cancel(reason: string): void {
    this.#end('cancelled', ['in_progress'], { code: 'ERR_UNPACK_CANCELLED', cause: oneLine(reason) });
  }

  /** It took, or waited, too long. The folder is given up, and `collect` removes it. Errors: ERR_UNPACK_JOB_STATE. */
  expire(now?: number): void {
    const cause = this.row().state === 'done' ? 'nobody took the tree in time' : 'the layer took too long';
    this.#end('expired', ['in_progress', 'done'], { code: 'ERR_UNPACK_EXPIRED', cause }, now);
  }

  /** The compressed layer that is kept in the folder. Errors: ERR_UNPACK_BLOB_MISSING when it is not there as a whole. */
  async keptBlob(): Promise<string> {
    const path = join(this.folder, 'blob');
    const { layer, size } = this.row();
    const found = await stat(path).catch(() => undefined);
    if (found?.isFile() === true && found.size === size) return path;
    throw new UnpackError('ERR_UNPACK_BLOB_MISSING', `the compressed layer ${layer} is not at ${path} any more`);
  }

  /**
   * Removes row and folder of a job whose work is over, and closes the handle.
   * Errors: ERR_UNPACK_JOB_STATE when it is in progress, or the handle was closed; errno codes of what is left behind without a row.
   */
  async remove(): Promise<void> {
    const { table, folders } = this.#parts;
    const { state } = this.row();
    if (state === 'in_progress' || !this.#lock.held) throw this.#illegal('removed', state);
    try {
      // First, so that nobody begins a job whose folder is half removed.
      table.delete(this.job);
      await folders.remove(this.job);
    } finally {
      this.close();
    }
  }

  /** Gives the folder up, and leaves the job as it is for the next who begins it, in this process or another one. Idempotent. */
  close(): void {
    if (!this.#lock.held) return;
    this.#lock.release();
    this.#parts.onClose(this);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #end(
    state: UnpackJobState,
    from: readonly UnpackJobState[],
    why: Omit<UnpackJobChange, 'state'>,
    now?: number,
  ): void {
    this.#change(state, from, { state, ...why }, now);
    this.close();
  }

  #change(what: string, from: readonly UnpackJobState[], to: UnpackJobChange, now?: number): void {
    if (this.#lock.held && this.#parts.table.change(this.job, from, to, now)) return;
    throw this.#illegal(what, this.state);
  }

  #illegal(what: string, state: UnpackJobState): UnpackError {
    const closed = this.#lock.held ? '' : ' and closed';
    return new UnpackError('ERR_UNPACK_JOB_STATE', `unpack job ${this.job} is ${state}${closed}: it cannot be ${what}`);
  }

  #notClaimable(state: UnpackJobState): UnpackError {
    const { layer, code, cause } = this.row();
    if (code === 'ERR_UNPACK_EXPIRED' || code === 'ERR_UNPACK_CANCELLED') {
      return new UnpackError(code, `unpack job ${this.job} of layer ${layer} is ${state}: ${cause ?? code}`);
    }
    const why = !this.#lock.held ? 'given up' : state === 'done' ? 'gone' : state;
    return new UnpackError(
      'ERR_UNPACK_NOT_CLAIMABLE',
      `the tree of unpack job ${this.job} of layer ${layer} cannot be taken: it is ${why}`,
    );
  }
}

/** What is kept of a message. */
function oneLine(message: string): string {
  const line = message.replace(/\s+/g, ' ').trim();
  return line.length > longestCause ? `${line.slice(0, longestCause)}…` : line;
}
