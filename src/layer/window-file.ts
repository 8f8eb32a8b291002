import { constants } from 'node:fs';
import { open, rm } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { writeAll } from '../util/write-all.ts';

/**
 * The windows of a layer that are here: a sparse file laid out as their blob is. Nothing says which those are, so what is read has to be
 * verified; then neither a crash nor another process that writes can do harm.
 */
export class WindowFile {
  readonly #path: string;
  #file: Promise<FileHandle> | undefined;
  /** From there on nothing was in the file; what another process writes there meanwhile is fetched once more. */
  #end = Infinity;
  #isGone = false;

  /** Opened, and made when it is missing, with the first read or write. */
  constructor(path: string) {
    this.#path = path;
  }

  /** Bytes [start, end) of the blob: anything where nothing was written, and perhaps fewer. Errors: errno codes. */
  async read(start: number, end: number): Promise<Buffer> {
    if (this.#isGone) return Buffer.alloc(0);
    const file = await this.#open();
    if (start >= this.#end) return Buffer.alloc(0);
    const { buffer, bytesRead } = await file.read(Buffer.allocUnsafe(end - start), 0, end - start, start);
    return buffer.subarray(0, bytesRead);
  }

  /** Errors: errno codes. */
  async write(start: number, bytes: Uint8Array): Promise<void> {
    if (this.#isGone) return;
    await writeAll(await this.#open(), [bytes], start);
    this.#end = Math.max(this.#end, start + bytes.length);
  }

  /** Removes the file: nothing is kept any more. Errors: errno codes. */
  async drop(): Promise<void> {
    await this.close();
    await rm(this.#path, { force: true });
  }

  /** Idempotent. */
  async close(): Promise<void> {
    this.#isGone = true;
    const file = await this.#file?.catch(() => undefined);
    this.#file = undefined;
    await file?.close();
  }

  #open(): Promise<FileHandle> {
    if (this.#file === undefined) {
      const opening = this.#opened();
      this.#file = opening;
      // The disk may have room later.
      opening.catch(() => {
        if (this.#file === opening) this.#file = undefined;
      });
    }
    return this.#file;
  }

  async #opened(): Promise<FileHandle> {
    const file = await open(this.#path, constants.O_RDWR | constants.O_CREAT, 0o600);
    const { size } = await file.stat();
    this.#end = size;
    return file;
  }
}
