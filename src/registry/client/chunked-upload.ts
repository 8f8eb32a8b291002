// A blob pushed in chunks (distribution spec, "Pushing a blob in chunks"). The id is the session's URL, so any process can resume it.
import type { Descriptor } from '../../oci/descriptor.ts';
import type { Digest } from '../../oci/digest.ts';
import { mediaTypes } from '../../oci/media-type.ts';
import { Scope } from '../auth/scope.ts';
import { RegistryError } from '../errors.ts';
import type { BlobWriter, CallOptions } from '../interface.ts';
import { discard } from './registry-client.ts';
import { sessionUrl } from './session-url.ts';
import { withDigest } from './uploads.ts';
import type { UploadCalls, UploadSession } from './uploads.ts';

const defaultChunkSize = 4 * 1024 * 1024;

export class ChunkedUpload implements BlobWriter {
  readonly chunkSize: number;
  readonly #uploads: UploadCalls;
  readonly #repository: string;
  #location: URL;
  /** Bytes the registry has. */
  #sent: number;
  #buffered: Uint8Array[] = [];
  #bufferedSize = 0;
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
    this.chunkSize = Math.max(options.chunkSize ?? defaultChunkSize, session.minChunkSize, 1);
  }

  get id(): string {
    return this.#location.href;
  }

  get size(): number {
    return this.#sent + this.#bufferedSize;
  }

  async write(chunk: Uint8Array, options: CallOptions = {}): Promise<void> {
    this.#mustBeOpen();
    // Kept until a request goes out, while the caller may use its buffer again.
    this.#buffered.push(Uint8Array.from(chunk));
    this.#bufferedSize += chunk.byteLength;
    if (this.#bufferedSize >= this.chunkSize) await this.#flush(options);
  }

  async close(): Promise<void> {
    if (this.#state !== 'open') return;
    await this.#flush({});
    this.#state = 'closed';
  }

  async commit(digest: Digest, options: CallOptions = {}): Promise<Descriptor> {
    this.#mustBeOpen();
    const bytes = this.#takeBuffered();
    const response = await this.#uploads.client.send({
      ...this.#request(),
      method: 'PUT',
      url: withDigest(this.#location, digest),
      headers: { 'content-type': 'application/octet-stream', ...this.#contentRange(bytes) },
      body: { size: bytes.byteLength, open: () => bytes },
      accept: [201, 204],
      ...options,
    });
    discard(response);
    this.#sent += bytes.byteLength;
    this.#state = 'committed';
    return { mediaType: mediaTypes.octetStream, digest, size: this.#sent };
  }

  async cancel(): Promise<void> {
    if (this.#state === 'committed' || this.#state === 'cancelled') return;
    this.#state = 'cancelled';
    this.#takeBuffered();
    await this.#uploads.cancel(this.#location, this.#repository);
  }

  async #flush(options: CallOptions): Promise<void> {
    if (this.#bufferedSize === 0) return;
    const bytes = this.#takeBuffered();
    const response = await this.#uploads.client.send({
      ...this.#request(),
      method: 'PATCH',
      url: this.#location,
      headers: { 'content-type': 'application/octet-stream', ...this.#contentRange(bytes) },
      body: { size: bytes.byteLength, open: () => bytes },
      accept: [202, 201, 204],
      ...options,
    });
    discard(response);
    this.#location = this.#uploads.sessionOf(response, this.#repository).location;
    this.#sent += bytes.byteLength;
  }

  #takeBuffered(): Uint8Array {
    const bytes = Buffer.concat(this.#buffered, this.#bufferedSize);
    this.#buffered = [];
    this.#bufferedSize = 0;
    return bytes;
  }

  #contentRange(bytes: Uint8Array): Record<string, string> {
    return bytes.byteLength === 0 ? {} : { 'content-range': `${this.#sent}-${this.#sent + bytes.byteLength - 1}` };
  }

  #mustBeOpen(): void {
    if (this.#state === 'open') return;
    throw new RegistryError('BLOB_UPLOAD_INVALID', `upload to ${this.#repository} is already ${this.#state}`);
  }

  #request() {
    return {
      what: `upload to ${this.#repository}`,
      subject: 'upload',
      scope: Scope.repository(this.#repository, 'pull', 'push'),
      // Sent twice, a chunk would be refused; the caller resumes by id instead.
      attempts: 'once',
    } as const;
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
  const url = sessionUrl(id, client.options.endpoint, client.url(`/v2/${repository}/blobs/uploads/`).pathname);
  if (url === undefined) {
    throw new RegistryError('BLOB_UPLOAD_UNKNOWN', `not an upload of ${repository} at ${client.options.host}`);
  }
  const what = `upload to ${repository}`;
  const scope = Scope.repository(repository, 'pull', 'push');
  const response = await client.send({
    method: 'GET',
    url,
    what,
    subject: 'upload',
    scope,
    accept: [204, 200],
    ...options,
  });
  discard(response);
  const range = /^(?:bytes=)?0-(\d{1,16})$/.exec(response.header('range') ?? '');
  const last = Number(range?.[1] ?? 0);
  // `0-0` is what an empty session is told to answer as well as one with a single byte.
  const size = last === 0 ? (offset === 1 ? 1 : 0) : last + 1;
  if (offset !== undefined && offset !== size) {
    throw new RegistryError('RANGE_INVALID', `${what} has ${size} bytes at ${client.options.host}, not ${offset}`);
  }
  const session =
    response.header('location') === undefined
      ? { location: url, minChunkSize: 0 }
      : uploads.sessionOf(response, repository);
  return new ChunkedUpload(uploads, repository, session, { chunkSize: undefined, offset: size });
}
