// A blob pushed in chunks (distribution spec, "Pushing a blob in chunks"). The id is the session's URL, so any process can resume it.
import type { Descriptor } from '../../oci/descriptor.ts';
import type { Digest } from '../../oci/digest.ts';
import { mediaTypes } from '../../oci/media-type.ts';
import { retry } from '../../util/backoff.ts';
import { RegistryError, hasCode } from '../errors.ts';
import type { BlobWriter, CallOptions } from '../interface.ts';
import type { HttpResponse } from './http.ts';
import { discard, retryDecision } from './registry-client.ts';
import { sessionUrl } from './session-url.ts';
import { lastByte, withDigest } from './uploads.ts';
import type { UploadCalls, UploadSession } from './uploads.ts';

const defaultChunkSize = 4 * 1024 * 1024;
/** A chunk is kept in memory, so a registry that wants more at once does not get it. */
const maxWantedChunk = 64 * 1024 * 1024;

/**
 * A chunk whose answer did not come may lie at the registry in full, in part or not at all. So bytes are kept until the registry has
 * acknowledged them, and after a failure the session is asked where it stands before anything more is sent.
 */
export class ChunkedUpload implements BlobWriter {
  readonly chunkSize: number;
  readonly #uploads: UploadCalls;
  readonly #repository: string;
  #location: URL;
  /** Bytes the registry has acknowledged. */
  #sent: number;
  /** What comes after them. */
  #kept: Uint8Array[] = [];
  #keptSize = 0;
  /** `lost`: what was sent last was not answered. `refused`: it was answered with 416. */
  #doubt: 'none' | 'lost' | 'refused' = 'none';
  #state: 'open' | 'closed' | 'committed' | 'cancelled' = 'open';

  constructor(
    uploads: UploadCalls,
    repository: string,
    session: UploadSession,
    options: { readonly chunkSize: number | undefined; readonly offset: number },
  ) {
    this.#uploads = uploads;
    this.#repository = repository;
    this.#location = session.location;
    this.#sent = options.offset;
    this.chunkSize = Math.max(options.chunkSize ?? defaultChunkSize, Math.min(session.minChunkSize, maxWantedChunk), 1);
  }

  get id(): string {
    return this.#location.href;
  }

  get size(): number {
    return this.#sent + this.#keptSize;
  }

  async write(chunk: Uint8Array, options: CallOptions = {}): Promise<void> {
    this.#mustBeOpen();
    // What an earlier failure left goes first, or writing on after failures would fill the memory.
    if (this.#keptSize >= this.chunkSize) await this.#flush(options);
    // Kept until the registry has it, while the caller may use its buffer again.
    this.#kept.push(new Uint8Array(chunk));
    this.#keptSize += chunk.byteLength;
    if (this.#keptSize >= this.chunkSize) await this.#flush(options);
  }

  async close(): Promise<void> {
    if (this.#state !== 'open') return;
    await this.#flush({});
    this.#state = 'closed';
  }

  async commit(digest: Digest, options: CallOptions = {}): Promise<Descriptor> {
    this.#mustBeOpen();
    const { size } = this;
    await this.#tryToSend(options, async () => {
      if (this.#doubt !== 'none' && (await this.#uploads.holds(this.#repository, { digest, size }, options))) return;
      await this.#settle(options);
      discard(await this.#send('PUT', withDigest(this.#location, digest), [201, 204], options));
    });
    this.#acknowledge(size);
    this.#state = 'committed';
    return { mediaType: mediaTypes.octetStream, digest, size };
  }

  async cancel(): Promise<void> {
    if (this.#state === 'committed' || this.#state === 'cancelled') return;
    this.#state = 'cancelled';
    this.#kept = [];
    this.#keptSize = 0;
    await this.#uploads.cancel(this.#location, this.#repository);
  }

  async #flush(options: CallOptions): Promise<void> {
    await this.#tryToSend(options, async () => {
      await this.#settle(options);
      while (this.#keptSize > 0) {
        const before = this.#sent;
        const response = await this.#send('PATCH', this.#location, [202, 201, 204], options);
        discard(response);
        this.#location = this.#uploads.sessionOf(response, this.#repository).location;
        this.#acknowledge(this.#told(response) ?? this.size);
        if (this.#sent === before) throw this.#invalid(`took nothing of a chunk of ${this.#keptSize} bytes`);
      }
    });
  }

  /** Again after failures that pass, and after a 416, which says that the registry stands elsewhere than we think. */
  async #tryToSend(options: CallOptions, work: () => Promise<void>): Promise<void> {
    const { client } = this.#uploads;
    const { backoff: policy, timer } = client.options;
    const decide = (error: unknown) => (hasCode(error, 'RANGE_INVALID') ? {} : retryDecision(error));
    await retry(work, { decide, policy, timer, signal: options.signal, budget: client.retryBudget });
    this.#doubt = 'none';
  }

  async #send(
    method: 'PATCH' | 'PUT',
    url: URL,
    accept: readonly number[],
    options: CallOptions,
  ): Promise<HttpResponse> {
    const bytes = this.#joined();
    const end = this.#sent + bytes.byteLength;
    const range: Record<string, string> = bytes.byteLength === 0 ? {} : { 'content-range': `${this.#sent}-${end - 1}` };
    this.#doubt = 'lost';
    try {
      const response = await this.#uploads.client.send({
        ...this.#uploads.request(this.#repository),
        method,
        url,
        headers: { 'content-type': 'application/octet-stream', ...range },
        body: { size: bytes.byteLength, open: () => bytes },
        accept,
        attempts: 'once',
        ...options,
      });
      this.#doubt = 'none';
      return response;
    } catch (error) {
      if (hasCode(error, 'RANGE_INVALID')) this.#doubt = 'refused';
      throw error;
    }
  }

  /** Learns how much the registry has when that is in doubt. Errors: BLOB_UPLOAD_INVALID when it has lost bytes or has others. */
  async #settle(options: CallOptions): Promise<void> {
    if (this.#doubt === 'none') return;
    const { location, last } = await this.#uploads.status(this.#location, this.#repository, {
      ...options,
      attempts: 'once',
    });
    // `0-0` is what an empty session answers as well as one with a single byte; one that refused byte 0 has it.
    const one = this.#sent === 1 || this.#doubt === 'refused';
    const stored = last === undefined ? 0 : last === 0 ? (one ? 1 : 0) : last + 1;
    if (stored < this.#sent || stored > this.size) {
      const where = this.#sent === this.size ? `at ${this.size}` : `between ${this.#sent} and ${this.size}`;
      throw this.#invalid(`stands at ${stored} bytes instead of ${where}`);
    }
    this.#location = location;
    this.#acknowledge(stored);
    this.#doubt = 'none';
  }

  /** How far a registry says that it got, when it took a part of a chunk only. */
  #told(response: HttpResponse): number | undefined {
    const last = lastByte(response.header('range'));
    if (typeof last !== 'number' || last === 0) return undefined;
    return last + 1 > this.#sent && last + 1 < this.size ? last + 1 : undefined;
  }

  /** The registry has the first `size` bytes of the blob. */
  #acknowledge(size: number): void {
    const left = this.#joined().subarray(size - this.#sent);
    this.#sent = size;
    this.#kept = left.byteLength === 0 ? [] : [left];
    this.#keptSize = left.byteLength;
  }

  #joined(): Uint8Array {
    const [first, ...others] = this.#kept;
    if (first !== undefined && others.length === 0) return first;
    const bytes = Buffer.concat(this.#kept, this.#keptSize);
    this.#kept = [bytes];
    return bytes;
  }

  #invalid(why: string): RegistryError {
    return new RegistryError(
      'BLOB_UPLOAD_INVALID',
      `upload to ${this.#repository} at ${this.#uploads.client.options.host}: ${why}`,
    );
  }

  #mustBeOpen(): void {
    if (this.#state === 'open') return;
    throw new RegistryError('BLOB_UPLOAD_INVALID', `upload to ${this.#repository} is already ${this.#state}`);
  }
}

/** Continues the session `id` where the registry says it stands. Errors: BLOB_UPLOAD_UNKNOWN; RANGE_INVALID when `offset` is another place. */
export async function resumeUpload(
  uploads: UploadCalls,
  repository: string,
  id: string,
  offset: number | undefined,
  options: CallOptions = {},
): Promise<ChunkedUpload> {
  const { client } = uploads;
  // Its address says how the registry speaks, so that has to be known first.
  await client.options.tlsFallback?.settle(options.signal);
  const url = sessionUrl(id, client.options.endpoint, client.url(`/v2/${repository}/blobs/uploads/`).pathname);
  if (url === undefined) {
    throw new RegistryError('BLOB_UPLOAD_UNKNOWN', `not an upload of ${repository} at ${client.options.host}`);
  }
  const { last, ...session } = await uploads.status(url, repository, options);
  // `0-0` is what an empty session is told to answer as well as one with a single byte.
  const size = last === undefined || last === 0 ? (offset === 1 ? 1 : 0) : last + 1;
  if (offset !== undefined && offset !== size) {
    throw new RegistryError(
      'RANGE_INVALID',
      `upload to ${repository} has ${size} bytes at ${client.options.host}, not ${offset}`,
    );
  }
  return new ChunkedUpload(uploads, repository, session, { chunkSize: undefined, offset: size });
}
