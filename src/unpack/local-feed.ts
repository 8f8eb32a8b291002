import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import type { BlobSource } from '../layer/blob-source.ts';
import { errorCode } from '../layer/errors.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { clampRange } from '../registry/blob-range.ts';
import { CallScope, scopedReader } from '../registry/streams/call-scope.ts';
import type { BlobFeed } from './blob-feed.ts';
import { UnpackError } from './errors.ts';
import { diskError } from './feed-errors.ts';
import { readPiece } from './read-piece.ts';

/** A blob that is in a file already. Nothing is opened before somebody reads. */
export function localFeed(path: string, descriptor: Descriptor): BlobFeed {
  return new LocalFeed(path, descriptor);
}

class LocalFeed implements BlobFeed {
  readonly kind = 'node';
  readonly path: string;
  readonly source: BlobSource;
  readonly #descriptor: Descriptor;
  readonly #open = new Set<FileHandle>();
  #isClosed = false;

  constructor(path: string, descriptor: Descriptor) {
    this.path = path;
    this.#descriptor = descriptor;
    const reader = async (start: number, end: number, signal: AbortSignal | undefined) => {
      const scope = new CallScope(signal);
      return scopedReader(descriptor, this.#read(start, end, scope.signal), scope);
    };
    this.source = {
      name: path,
      readRange: async (start, end, { signal } = {}) => {
        const range = clampRange({ start, end }, path, descriptor.size);
        return await reader(range.start, range.end, signal);
      },
      readAll: ({ signal } = {}) => reader(0, descriptor.size, signal),
    };
  }

  stream({ signal }: { readonly signal: AbortSignal }): AsyncIterable<Uint8Array> {
    return this.#read(0, this.#descriptor.size, signal);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await Promise.all([...this.#open].map((file) => file.close()));
  }

  async *#read(start: number, end: number, signal: AbortSignal): AsyncGenerator<Uint8Array> {
    signal.throwIfAborted();
    const file = await this.#openFile();
    try {
      for (let at = start; at < end; ) {
        signal.throwIfAborted();
        this.#throwIfClosed();
        const piece = await this.#piece(file, at, end);
        at += piece.length;
        yield piece;
      }
    } finally {
      this.#open.delete(file);
      await file.close();
    }
  }

  async #piece(file: FileHandle, at: number, end: number): Promise<Uint8Array> {
    try {
      return await readPiece(file, this.path, at, end);
    } catch (error) {
      // It may have been closed meanwhile.
      this.#throwIfClosed();
      throw error;
    }
  }

  async #openFile(): Promise<FileHandle> {
    const { path } = this;
    this.#throwIfClosed();
    let file: FileHandle;
    try {
      file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
    } catch (cause) {
      if (errorCode(cause) !== 'ENOENT') throw diskError(`cannot read ${path}`, cause);
      throw new UnpackError('ERR_UNPACK_BLOB_MISSING', `${path} is gone`, { cause });
    }
    this.#open.add(file);
    try {
      const { size } = await file.stat();
      this.#throwIfClosed();
      if (size === this.#descriptor.size) return file;
      throw new UnpackError('ERR_UNPACK_DIGEST', `${path} has ${size} bytes, not ${this.#descriptor.size}`);
    } catch (cause) {
      this.#open.delete(file);
      await file.close();
      throw diskError(`cannot read ${path}`, cause);
    }
  }

  #throwIfClosed(): void {
    if (this.#isClosed) throw new UnpackError('ERR_UNPACK_CANCELLED', `reading ${this.path} was ended`);
  }
}
