import type { FileHandle } from 'node:fs/promises';
import { RegistryError } from '../registry/errors.ts';
import { Deferred } from '../util/deferred.ts';
import { writeAll } from '../util/write-all.ts';
import { diskError } from './feed-errors.ts';

export interface ChunkWriterOptions {
  readonly file: FileHandle;
  /** For messages. */
  readonly path: string;
  /** Bytes [start, end) of the file. */
  readonly start: number;
  readonly end: number;
  /** Told how many more bytes are in the file. */
  readonly onWritten: (bytes: number) => void;
}

/** What may wait to be written before the transfer is paused. */
const maxQueuedBytes = 1 << 20;
const maxQueuedPieces = 256;

/** Writes one chunk while it arrives: one write at a time, of all the pieces that came during the one before. */
export class ChunkWriter {
  readonly start: number;
  readonly end: number;
  readonly #o: ChunkWriterOptions;
  #received: number;
  #written: number;
  /** Being written, and what follows on it. */
  #writing: readonly Uint8Array[] = [];
  #queue: Uint8Array[] = [];
  #flushing: Promise<void> | undefined;
  #drained: Deferred<void> | undefined;
  #failure: Error | undefined;

  constructor(options: ChunkWriterOptions) {
    this.#o = options;
    this.start = options.start;
    this.end = options.end;
    this.#received = options.start;
    this.#written = options.start;
  }

  /** Where in the file the next piece goes. */
  get received(): number {
    return this.#received;
  }

  /** Before this place in the file all bytes of the chunk can be read from it. */
  get written(): number {
    return this.#written;
  }

  /**
   * Takes the next bytes; they must not change from now on. A promise asks not to send more until it resolves.
   * Errors: RESPONSE_INVALID when they go on after the chunk's end; ERR_UNPACK_DISK, of an earlier piece, also in the promise.
   */
  push(piece: Uint8Array): Promise<void> | undefined {
    if (this.#failure !== undefined) throw this.#failure;
    if (piece.length > this.end - this.#received) {
      throw new RegistryError(
        'RESPONSE_INVALID',
        `answered with more than the ${this.end - this.start} bytes asked for`,
      );
    }
    if (piece.length === 0) return undefined;
    this.#received += piece.length;
    this.#queue.push(piece);
    this.#flushing ??= this.#flush();
    if (this.#received - this.#written < maxQueuedBytes && this.#queue.length < maxQueuedPieces) return undefined;
    this.#drained ??= new Deferred();
    return this.#drained.promise;
  }

  /** Received bytes from `position` on that are not in the file yet. */
  unwritten(position: number): Uint8Array | undefined {
    let start = this.#written;
    if (position < start || position >= this.#received) return undefined;
    for (const pieces of [this.#writing, this.#queue]) {
      for (const piece of pieces) {
        if (position < start + piece.length) return piece.subarray(position - start);
        start += piece.length;
      }
    }
    return undefined;
  }

  /** Waits until what was received is in the file. Errors: ERR_UNPACK_DISK. */
  async flushed(): Promise<void> {
    await this.#flushing;
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Never rejects. */
  async #flush(): Promise<void> {
    try {
      while (this.#queue.length > 0) {
        const pieces = this.#queue;
        const end = this.#received;
        this.#writing = pieces;
        this.#queue = [];
        await writeAll(this.#o.file, pieces, this.#written);
        const bytes = end - this.#written;
        this.#written = end;
        this.#writing = [];
        this.#o.onWritten(bytes);
        this.#drained?.resolve();
        this.#drained = undefined;
      }
    } catch (cause) {
      this.#failure = diskError(`cannot write ${this.#o.path}`, cause);
      this.#drained?.reject(this.#failure);
    } finally {
      this.#flushing = undefined;
    }
  }
}
