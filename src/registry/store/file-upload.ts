import { randomBytes } from 'node:crypto';
import { fstatSync, statSync } from 'node:fs';
import { open, rm } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import path from 'node:path';
import { tryLock } from '../../native/sys.ts';
import type { Descriptor } from '../../oci/descriptor.ts';
import { digestAlgorithm } from '../../oci/digest.ts';
import type { Digest } from '../../oci/digest.ts';
import { mediaTypes } from '../../oci/media-type.ts';
import { contentHash, contentProblem } from '../blob-content.ts';
import type { ContentHash } from '../blob-content.ts';
import { clampRange } from '../blob-range.ts';
import { RegistryError } from '../errors.ts';
import type { BlobWriter, CallOptions } from '../interface.ts';
import { uploadUnknown } from '../not-found.ts';
import { digestOfFile } from './blob-store.ts';
import { isNotFound, openInFolder } from './durable-file.ts';
import { pause } from './file-lock.ts';

const chunkSize = 1024 * 1024;

/** How often the lock of an upload is tried: some seconds, in which a connection that broke is noticed. */
const lockAttempts = 150;

/** Where the uploads of a repository lie, and what becomes of one that is complete. */
export interface UploadPlace {
  /** For messages. */
  readonly repository: string;
  readonly dir: string;
  /** Makes the file, which is synced, the blob, durably. False when the file was gone; it is gone afterwards. */
  adopt(digest: Digest, file: string, options: CallOptions): Promise<boolean>;
}

/** An upload whose state is a file and nothing else: it can be resumed by its id after a restart. */
export class FileUpload implements BlobWriter {
  readonly id: string;
  readonly chunkSize = chunkSize;
  readonly #place: UploadPlace;
  readonly #file: string;
  #handle: FileHandle | undefined;
  #size: number;
  #locked = false;
  /** Its file is a blob's as well: a process was killed in the middle of the commit. It can be committed again, but not be written to. */
  #adopted = false;
  #finished = false;
  /** Of what was written, when all of it was written by us: then the file need not be read again. */
  #hash: ContentHash | undefined;

  private constructor(place: UploadPlace, id: string, handle: FileHandle, size: number) {
    this.id = id;
    this.#place = place;
    this.#file = path.join(place.dir, id);
    this.#handle = handle;
    this.#size = size;
    this.#hash = size === 0 ? contentHash('sha256') : undefined;
  }

  static async start(place: UploadPlace): Promise<FileUpload> {
    const id = randomBytes(16).toString('hex');
    const handle = await openInFolder(path.join(place.dir, id), 'wx+');
    return new FileUpload(place, id, handle, 0);
  }

  /** Errors: BLOB_UPLOAD_UNKNOWN; RANGE_INVALID when it stands elsewhere than at `offset`. */
  static async resume(place: UploadPlace, id: string, offset: number | undefined): Promise<FileUpload> {
    if (!/^[0-9a-f]{32}$/.test(id)) throw uploadUnknown(place.repository, id);
    let handle: FileHandle;
    try {
      handle = await open(path.join(place.dir, id), 'r+');
    } catch (error) {
      if (isNotFound(error)) throw uploadUnknown(place.repository, id);
      throw error;
    }
    try {
      const { size } = fstatSync(handle.fd);
      if (offset !== undefined && offset !== size) throw elsewhere(place, size, offset);
      return new FileUpload(place, id, handle, size);
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  get size(): number {
    return this.#size;
  }

  async write(chunk: Uint8Array, options: CallOptions = {}): Promise<void> {
    options.signal?.throwIfAborted();
    const handle = await this.#lockedHandle(options);
    if (this.#adopted && chunk.byteLength > 0) throw this.#unknown();
    const hash = this.#hash;
    // What is hashed is not what is stored until all of it is written.
    this.#hash = undefined;
    const writing = this.#writeAll(handle, chunk);
    // Here, while the thread pool writes.
    hash?.update(chunk);
    await writing;
    this.#hash = hash;
  }

  async read(from: number, to: number, options: CallOptions = {}): Promise<Uint8Array> {
    options.signal?.throwIfAborted();
    const { start, end } = clampRange({ start: from, end: to }, `upload to ${this.#place.repository}`, this.#size);
    const bytes = Buffer.allocUnsafe(end - start);
    for (let done = 0; done < bytes.byteLength; ) {
      // Looked up each time: the upload may be finished between two of them. One that is under way is waited for then.
      const { bytesRead } = await this.#openHandle().read(bytes, done, bytes.byteLength - done, start + done);
      if (bytesRead === 0) throw elsewhere(this.#place, start + done, this.#size);
      done += bytesRead;
    }
    return bytes;
  }

  async close(): Promise<void> {
    const handle = this.#handle;
    this.#handle = undefined;
    await handle?.close();
  }

  async commit(digest: Digest, options: CallOptions = {}): Promise<Descriptor> {
    try {
      const handle = await this.#lockedHandle(options);
      const hashed = digestAlgorithm(digest) === 'sha256' ? this.#hash?.digest() : undefined;
      const actual = hashed ?? (await digestOfFile(this.#file, digest, options));
      const wrong = contentProblem(digest, this.#size, actual, this.#size);
      if (wrong !== null) {
        // What was sent can never become that blob; a client that wants to try again starts anew.
        await this.cancel();
        throw wrong;
      }
      await handle.sync();
      if (!(await this.#place.adopt(digest, this.#file, options))) throw this.#unknown();
      this.#finished = true;
      return { mediaType: mediaTypes.octetStream, digest, size: this.#size };
    } catch (error) {
      if (isNotFound(error)) throw this.#unknown();
      throw error;
    } finally {
      // The lock goes with it: until here nobody else could change what was checked.
      await this.close();
    }
  }

  async cancel(): Promise<void> {
    if (this.#finished) return;
    this.#finished = true;
    await this.close();
    await rm(this.#file, { force: true });
  }

  async #writeAll(handle: FileHandle, chunk: Uint8Array): Promise<void> {
    for (let done = 0; done < chunk.byteLength; ) {
      const { bytesWritten } = await handle.write(chunk, done, chunk.byteLength - done, this.#size);
      done += bytesWritten;
      this.#size += bytesWritten;
    }
  }

  /** Two requests may resume one upload; only one at a time may write to it, and only where it stands. */
  async #lockedHandle(options: CallOptions): Promise<FileHandle> {
    const handle = this.#openHandle();
    if (this.#locked) return handle;
    for (let round = 0; !tryLock(this.#openHandle().fd, 'exclusive'); round += 1) {
      if (round === lockAttempts)
        throw new RegistryError('UNAVAILABLE', `upload to ${this.#place.repository} is being written by another`);
      await pause(round, options);
    }
    // Its name was just looked up: these two ask the kernel alone, and do not queue behind the syncs in the thread pool.
    const [own, current] = [fstatSync(handle.fd), statSync(this.#file, { throwIfNoEntry: false })];
    if (own.ino !== current?.ino) throw this.#unknown();
    if (own.size !== this.#size) throw elsewhere(this.#place, own.size, this.#size);
    this.#adopted = own.nlink > 1;
    this.#locked = true;
    return handle;
  }

  #openHandle(): FileHandle {
    if (this.#handle !== undefined) return this.#handle;
    throw new RegistryError('BLOB_UPLOAD_INVALID', `upload to ${this.#place.repository} is already finished`);
  }

  #unknown(): RegistryError {
    return uploadUnknown(this.#place.repository, this.id);
  }
}

function elsewhere({ repository }: UploadPlace, size: number, offset: number): RegistryError {
  return new RegistryError('RANGE_INVALID', `upload to ${repository} has ${size} bytes, not ${offset}`);
}
