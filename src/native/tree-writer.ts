import { addon } from './addon.ts';
import type { RawPath } from './sys.ts';
import { TreeOpEncoder } from './tree-op-encoder.ts';
import type { TreeOp } from './tree-ops.ts';

export interface TreeWriterOptions {
  /** `mine`: everything belongs to whoever runs this, and what needs privileges is left out and counted. */
  readonly ownership: 'entries' | 'mine';
}

/** What native/src/binding/tree_writer.cpp exports. */
interface Native {
  treeWriterOpen(dir: RawPath, ownership: string): object;
  treeWriterAddStream(handle: object, stream: number, fd: number): void;
  treeWriterAdvance(handle: object, stream: number, offset: number): void;
  treeWriterSubmit(handle: object, ops: Uint8Array): void;
  /** [operations, stream bytes, skipped devices, skipped attributes] */
  treeWriterCounts(handle: object): Float64Array;
  treeWriterFinish(handle: object): Promise<void>;
  treeWriterClose(handle: object): Promise<void>;
}

/**
 * Makes a tree beneath one directory on a native thread: operations in order, files from layer streams that are still being
 * written. No symbolic link is followed and no mount entered on the way to anything.
 *
 * The first operation that fails is the last one: every later call throws its failure, an Error with `code` (the errno's
 * name) whose message names operation and path. ERR_CLOSED after close().
 */
export class TreeWriter {
  readonly #native = addon() as Native;
  readonly #encoder = new TreeOpEncoder();
  readonly #handle: object;
  #closing: Promise<void> | undefined;

  private constructor(dir: RawPath, options: TreeWriterOptions) {
    this.#handle = this.#native.treeWriterOpen(dir, options.ownership);
  }

  /**
   * `dir` is there and empty, and from now on the writer's own.
   * Errors: ENOENT, ENOTDIR (also for a symbolic link), ENOTEMPTY, other errno codes.
   */
  static open(dir: RawPath, options: TreeWriterOptions): TreeWriter {
    return new TreeWriter(dir, options);
  }

  /** `dataFd` is duplicated. EEXIST when the number is taken, EBADF when it cannot be read. */
  addStream(stream: number, dataFd: number): void {
    this.#native.treeWriterAddStream(this.#handle, stream, dataFd);
  }

  /** All bytes of the stream before `offset` can be read. ENOENT when there is no such stream. */
  advance(stream: number, offset: number): void {
    this.#native.treeWriterAdvance(this.#handle, stream, offset);
  }

  /** All of `ops` are taken, or none: TypeError for one that can be none. */
  submit(ops: readonly TreeOp[]): void {
    this.#native.treeWriterSubmit(this.#handle, this.#encoder.encode(ops));
  }

  /**
   * Left out: devices (and hard links to them) and extended attributes that need privileges, with `mine`, and extended
   * attributes that the filesystem has not, other than an overlay's.
   */
  get skipped(): { readonly devices: number; readonly xattrs: number } {
    const [, , devices = 0, xattrs = 0] = this.#native.treeWriterCounts(this.#handle);
    return { devices, xattrs };
  }

  /** What is done: operations, and stream bytes in files. */
  get progress(): { readonly ops: number; readonly streamBytes: number } {
    const [ops = 0, streamBytes = 0] = this.#native.treeWriterCounts(this.#handle);
    return { ops, streamBytes };
  }

  /**
   * Resolves when all that was submitted before is done; more may follow. Rejects with the first failure, ERR_CLOSED, or
   * the reason of the signal, which ends the waiting only.
   */
  finish(options: { readonly signal: AbortSignal }): Promise<void> {
    const { signal } = options;
    return new Promise((resolve, reject) => {
      signal.throwIfAborted();
      const abort = (): void => reject(signal.reason);
      signal.addEventListener('abort', abort, { once: true });
      this.#native
        .treeWriterFinish(this.#handle)
        .finally(() => signal.removeEventListener('abort', abort))
        .then(resolve, reject);
    });
  }

  /** Stops after the system call that runs, whatever is left; resolves when nothing is written any more. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#native.treeWriterClose(this.#handle);
    return this.#closing;
  }
}
