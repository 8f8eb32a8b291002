import { randomBytes } from 'node:crypto';
import { open, rm, stat } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import path from 'node:path';
import type { Descriptor } from '../../oci/descriptor.ts';
import type { Digest } from '../../oci/digest.ts';
import { mediaTypes } from '../../oci/media-type.ts';
import { makeDirectory } from '../../util/make-directory.ts';
import { contentProblem } from '../blob-content.ts';
import { RegistryError } from '../errors.ts';
import type { BlobWriter, CallOptions } from '../interface.ts';
import { digestOfFile } from './blob-store.ts';
import type { BlobStore } from './blob-store.ts';
import { isNotFound } from './durable-file.ts';
import type { StorePaths } from './paths.ts';

const chunkSize = 1024 * 1024;

/** An upload whose state is a file and nothing else: it can be resumed by its id after a restart. */
export class FileUpload implements BlobWriter {
  readonly id: string;
  readonly chunkSize = chunkSize;
  readonly #store: BlobStore;
  readonly #repository: string;
  readonly #file: string;
  #handle: FileHandle | undefined;
  #size: number;
  #finished = false;

  private constructor(
    store: BlobStore,
    repository: string,
    id: string,
    file: string,
    handle: FileHandle,
    size: number,
  ) {
    this.#store = store;
    this.#repository = repository;
    this.id = id;
    this.#file = file;
    this.#handle = handle;
    this.#size = size;
  }

  static async start(paths: StorePaths, store: BlobStore, repository: string): Promise<FileUpload> {
    const id = randomBytes(16).toString('hex');
    const file = paths.upload(repository, id);
    await makeDirectory(path.dirname(file));
    return new FileUpload(store, repository, id, file, await open(file, 'wx'), 0);
  }

  /** Errors: BLOB_UPLOAD_UNKNOWN; RANGE_INVALID when it stands elsewhere than at `offset`. */
  static async resume(
    paths: StorePaths,
    store: BlobStore,
    repository: string,
    id: string,
    offset: number | undefined,
  ): Promise<FileUpload> {
    const unknown = () =>
      new RegistryError('BLOB_UPLOAD_UNKNOWN', `no upload ${JSON.stringify(id.slice(0, 64))} in ${repository}`);
    if (!/^[0-9a-f]{32}$/.test(id)) throw unknown();
    const file = paths.upload(repository, id);
    try {
      const { size } = await stat(file);
      if (offset !== undefined && offset !== size)
        throw new RegistryError('RANGE_INVALID', `upload to ${repository} has ${size} bytes, not ${offset}`);
      return new FileUpload(store, repository, id, file, await open(file, 'r+'), size);
    } catch (error) {
      if (isNotFound(error)) throw unknown();
      throw error;
    }
  }

  get size(): number {
    return this.#size;
  }

  async write(chunk: Uint8Array, options: CallOptions = {}): Promise<void> {
    options.signal?.throwIfAborted();
    const handle = this.#openHandle();
    for (let done = 0; done < chunk.byteLength; ) {
      const { bytesWritten } = await handle.write(chunk, done, chunk.byteLength - done, this.#size);
      done += bytesWritten;
      this.#size += bytesWritten;
    }
  }

  async close(): Promise<void> {
    const handle = this.#handle;
    this.#handle = undefined;
    await handle?.close();
  }

  async commit(digest: Digest, options: CallOptions = {}): Promise<Descriptor> {
    this.#openHandle();
    const actual = await digestOfFile(this.#file, digest, options);
    const wrong = contentProblem(digest, this.#size, actual, this.#size);
    if (wrong !== null) {
      // What was sent can never become that blob; a client that wants to try again starts anew.
      await this.cancel();
      throw wrong;
    }
    await this.close();
    await this.#store.adopt(this.#repository, digest, this.#file);
    this.#finished = true;
    return { mediaType: mediaTypes.octetStream, digest, size: this.#size };
  }

  async cancel(): Promise<void> {
    if (this.#finished) return;
    this.#finished = true;
    await this.close();
    await rm(this.#file, { force: true });
  }

  #openHandle(): FileHandle {
    if (this.#handle !== undefined) return this.#handle;
    throw new RegistryError('BLOB_UPLOAD_INVALID', `upload to ${this.#repository} is already finished`);
  }
}
