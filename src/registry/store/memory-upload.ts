import type { Descriptor } from '../../oci/descriptor.ts';
import { digestAlgorithm } from '../../oci/digest.ts';
import type { Digest } from '../../oci/digest.ts';
import { mediaTypes } from '../../oci/media-type.ts';
import { contentProblem } from '../blob-content.ts';
import { clampRange } from '../blob-range.ts';
import { RegistryError } from '../errors.ts';
import type { BlobWriter, CallOptions } from '../interface.ts';
import { checkDigest } from '../names.ts';
import { MemoryContent } from './memory-content.ts';
import type { MemoryBudget } from './memory-content.ts';

const chunkSize = 1024 * 1024;

/** An upload under way, and what of it is there. */
export class MemoryUpload {
  readonly id: string;
  readonly repository: string;
  readonly content = new MemoryContent();
  readonly #budget: MemoryBudget;
  readonly #adopt: (digest: Digest, content: MemoryContent) => void;
  readonly #forget: () => void;
  #ended = false;
  touchedAt = Date.now();

  constructor(
    id: string,
    repository: string,
    budget: MemoryBudget,
    handlers: {
      /** Takes over complete content together with what it takes of the budget. */
      readonly adopt: (digest: Digest, content: MemoryContent) => void;
      readonly forget: () => void;
    },
  ) {
    this.id = id;
    this.repository = repository;
    this.#budget = budget;
    this.#adopt = handlers.adopt;
    this.#forget = handlers.forget;
  }

  get ended(): boolean {
    return this.#ended;
  }

  append(chunk: Uint8Array): void {
    this.#budget.take(chunk.byteLength);
    this.content.append(chunk);
    this.touchedAt = Date.now();
  }

  complete(digest: Digest): void {
    this.content.trim();
    this.#adopt(digest, this.content);
    this.#ended = true;
    this.#forget();
  }

  drop(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#forget();
    this.#budget.give(this.content.size);
  }
}

/** One writer of an upload: it stands where it was opened, and notices when another went on meanwhile. */
export class MemoryBlobWriter implements BlobWriter {
  readonly chunkSize = chunkSize;
  readonly #upload: MemoryUpload;
  #size: number;
  #closed = false;

  constructor(upload: MemoryUpload) {
    this.#upload = upload;
    this.#size = upload.content.size;
  }

  get id(): string {
    return this.#upload.id;
  }

  get size(): number {
    return this.#size;
  }

  async write(chunk: Uint8Array, options: CallOptions = {}): Promise<void> {
    options.signal?.throwIfAborted();
    this.#check();
    this.#upload.append(chunk);
    this.#size += chunk.byteLength;
  }

  async read(from: number, to: number, options: CallOptions = {}): Promise<Uint8Array> {
    options.signal?.throwIfAborted();
    this.#mustBeOpen();
    const { repository, content } = this.#upload;
    const { start, end } = clampRange({ start: from, end: to }, `upload to ${repository}`, this.#size);
    return Buffer.concat([...content.read(start, end)]);
  }

  async close(): Promise<void> {
    this.#closed = true;
  }

  async commit(digest: Digest, options: CallOptions = {}): Promise<Descriptor> {
    checkDigest(digest);
    this.#check();
    const actual = await this.#upload.content.digest(digestAlgorithm(digest), options);
    // Whoever wrote while it was hashed made it something else.
    this.#check();
    const wrong = contentProblem(digest, this.#size, actual, this.#size);
    if (wrong === null) this.#upload.complete(digest);
    // What was sent can never become that blob; a client that wants to try again starts anew.
    else this.#upload.drop();
    this.#closed = true;
    if (wrong !== null) throw wrong;
    return { mediaType: mediaTypes.octetStream, digest, size: this.#size };
  }

  async cancel(): Promise<void> {
    this.#closed = true;
    this.#upload.drop();
  }

  #check(): void {
    this.#mustBeOpen();
    const { repository, content } = this.#upload;
    if (content.size !== this.#size)
      throw new RegistryError('RANGE_INVALID', `upload to ${repository} has ${content.size} bytes, not ${this.#size}`);
  }

  #mustBeOpen(): void {
    const { repository, ended } = this.#upload;
    if (this.#closed || ended)
      throw new RegistryError('BLOB_UPLOAD_INVALID', `upload to ${repository} is already finished`);
  }
}
