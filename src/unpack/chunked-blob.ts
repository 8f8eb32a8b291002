import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { hashFileRange } from '../native/sys.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { ChunkRecord } from './chunk-record.ts';
import { ChunkWriter } from './chunk-writer.ts';
import { diskError } from './feed-errors.ts';
import { readPiece } from './read-piece.ts';

export interface ChunkedBlobOptions {
  /** Gets the files `blob` and `chunks`. */
  readonly folder: string;
  readonly blob: Pick<Descriptor, 'digest' | 'size'>;
  /** Where an earlier process began with another one, that is kept to. */
  readonly chunkSize: number;
  /** Told how many bytes are in the file. */
  readonly onProgress: (done: number) => void;
  readonly signal: AbortSignal;
}

/** Smaller ones cost more than they are good for, and so do more of them. */
const minChunkSize = 64 << 10;
const maxChunks = 1 << 17;

/** A file that gets a blob's chunks in any order, and those who read it while it does. */
export class ChunkedBlob {
  readonly path: string;
  readonly size: number;
  readonly chunkSize: number;
  readonly count: number;
  readonly #file: FileHandle;
  readonly #record: ChunkRecord;
  /** 1: all of the chunk is in the file, and recorded. */
  readonly #present: Uint8Array;
  readonly #writers = new Map<number, ChunkWriter>();
  readonly #sealing = new Map<number, Promise<void>>();
  /** Who waits for more of a chunk. */
  readonly #waiting = new Map<number, (() => void)[]>();
  readonly #onProgress: (done: number) => void;
  #done = 0;
  #end: { readonly reason: unknown } | undefined;

  private constructor(path: string, file: FileHandle, record: ChunkRecord, { blob, onProgress }: ChunkedBlobOptions) {
    this.path = path;
    this.size = blob.size;
    this.chunkSize = record.chunkSize;
    this.count = Math.ceil(blob.size / record.chunkSize);
    this.#file = file;
    this.#record = record;
    this.#present = new Uint8Array(this.count);
    this.#onProgress = onProgress;
  }

  /** With the chunks of earlier processes that are still as they were received. Errors: ERR_UNPACK_DISK; the signal's reason. */
  static async open(options: ChunkedBlobOptions): Promise<ChunkedBlob> {
    const { folder, blob, signal } = options;
    signal.throwIfAborted();
    const path = join(folder, 'blob');
    const chunkSize = Math.max(options.chunkSize, minChunkSize, Math.ceil(blob.size / maxChunks));
    const record = await ChunkRecord.open(join(folder, 'chunks'), blob, chunkSize);
    let file: FileHandle | undefined;
    try {
      const { O_RDWR, O_CREAT, O_NOFOLLOW } = constants;
      file = await open(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0o600);
      const opened = new ChunkedBlob(path, file, record, options);
      await opened.#check(signal);
      await file.truncate(blob.size);
      return opened;
    } catch (cause) {
      await file?.close();
      await record.close();
      signal.throwIfAborted();
      throw diskError(`cannot use ${path}`, cause);
    }
  }

  /** Bytes that are in the file. */
  get done(): number {
    return this.#done;
  }

  /** All chunks are in the file, and recorded. */
  get isWhole(): boolean {
    return this.#present.every((present) => present === 1);
  }

  isPresent(index: number): boolean {
    return this.#present[index] === 1;
  }

  /** Of a chunk that is not present; the same one each time, so that what a transfer that broke has brought counts. */
  writer(index: number): ChunkWriter {
    let writer = this.#writers.get(index);
    if (writer === undefined) {
      const onWritten = (bytes: number) => {
        this.#done += bytes;
        this.#onProgress(this.#done);
      };
      writer = new ChunkWriter({ file: this.#file, path: this.path, ...this.#placeOf(index), onWritten });
      this.#writers.set(index, writer);
    }
    return writer;
  }

  /** After more was pushed to the chunk's writer. */
  grew(index: number): void {
    const waiting = this.#waiting.get(index);
    if (waiting === undefined) return;
    this.#waiting.delete(index);
    for (const wake of waiting) wake();
  }

  /** After all of a chunk was received; the second time it waits for the first. Errors: ERR_UNPACK_DISK. */
  seal(index: number): Promise<void> {
    const sealing = this.#sealing.get(index) ?? this.#seal(index);
    this.#sealing.set(index, sealing);
    return sealing;
  }

  /**
   * Bytes [start, end), as they come, in pieces of up to 1 MiB: those that just came from the wire as they are, others from the file.
   * Errors: the reason of `end`; ERR_UNPACK_DISK; the signal's reason.
   */
  async *read(start: number, end: number, signal: AbortSignal): AsyncGenerator<Uint8Array> {
    const onAbort = () => this.#wakeAll();
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      for (let at = start; at < end; ) {
        signal.throwIfAborted();
        this.throwIfEnded();
        const index = Math.floor(at / this.chunkSize);
        const writer = this.#writers.get(index);
        const fresh = writer?.unwritten(at);
        if (fresh !== undefined) {
          const piece = fresh.subarray(0, end - at);
          at += piece.length;
          yield piece;
          continue;
        }
        const readable = this.isPresent(index) ? (index + 1) * this.chunkSize : (writer?.written ?? 0);
        if (readable > at) {
          const piece = await this.#readFile(at, Math.min(readable, end));
          at += piece.length;
          yield piece;
        } else await this.#more(index);
      }
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  /** No more comes: who reads gets `reason`. Only the first one counts. */
  end(reason: unknown): void {
    this.#end ??= { reason };
    this.#wakeAll();
  }

  /** Errors: the reason of `end`. */
  throwIfEnded(): void {
    if (this.#end !== undefined) throw this.#end.reason;
  }

  /** After the last push. Waits for what is being written and read. */
  async close(): Promise<void> {
    await Promise.allSettled([...this.#writers.values()].map((writer) => writer.flushed()));
    await this.#file.close();
    await this.#record.close();
  }

  async #seal(index: number): Promise<void> {
    const writer = this.writer(index);
    await writer.flushed();
    await this.#record.add(index, await this.#digestOf(index));
    this.#present[index] = 1;
    this.#writers.delete(index);
    this.#sealing.delete(index);
  }

  #placeOf(index: number): { readonly start: number; readonly end: number } {
    const start = index * this.chunkSize;
    return { start, end: Math.min(start + this.chunkSize, this.size) };
  }

  /** As it is in the file: sha256 in hex. Not while it comes, which would keep whoever receives it from receiving. */
  async #digestOf(index: number): Promise<string> {
    const { start, end } = this.#placeOf(index);
    try {
      return (await hashFileRange(this.#file.fd, start, end)).toString('hex');
    } catch (cause) {
      throw diskError(`cannot read ${this.path}`, cause);
    }
  }

  async #readFile(at: number, end: number): Promise<Uint8Array> {
    try {
      return await readPiece(this.#file, this.path, at, end);
    } catch (error) {
      // It may have been closed meanwhile.
      throw this.#end === undefined ? error : this.#end.reason;
    }
  }

  #more(index: number): Promise<void> {
    return new Promise((resolve) => {
      const waiting = this.#waiting.get(index);
      if (waiting === undefined) this.#waiting.set(index, [resolve]);
      else waiting.push(resolve);
    });
  }

  #wakeAll(): void {
    for (const index of this.#waiting.keys()) this.grew(index);
  }

  /** Finds the recorded chunks that are as they were. */
  async #check(signal: AbortSignal): Promise<void> {
    const { size } = await this.#file.stat();
    for (const [index, sha256] of this.#record.recorded) {
      signal.throwIfAborted();
      const { start, end } = this.#placeOf(index);
      if (index >= this.count || end > size || (await this.#digestOf(index)) !== sha256) continue;
      this.#present[index] = 1;
      this.#done += end - start;
    }
  }
}
