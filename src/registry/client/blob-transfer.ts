// One blob or a range of one, as bytes that are exactly those asked for: continued after a broken connection, never shifted,
// never longer, never shorter.
import { setMaxListeners } from 'node:events';
import { backoffDelay } from '../../util/backoff.ts';
import { digestAlgorithm } from '../../oci/digest.ts';
import type { Digest } from '../../oci/digest.ts';
import { contentHash, contentProblem } from '../blob-content.ts';
import { RegistryError } from '../errors.ts';
import { printable } from './answer-error.ts';
import { bodyError } from './http.ts';
import type { HttpResponse } from './http.ts';
import { checkPartialContent, formatRange } from './range.ts';
import { discard, retryDecision } from './registry-client.ts';
import type { RegistryClient } from './registry-client.ts';

/** A registry that ignores ranges is put up with as long as no more than this has to be read and thrown away. */
const maxSkipBytes = 1024 * 1024;
/** Fewer bytes than this since the last failure are no progress: a connection for every few bytes is no way to pull a blob. */
const minProgressBytes = 64 * 1024;

/** One for all: making it costs as much as the rest of ending a transfer, and nobody is told of it. */
const closed = new DOMException('the transfer was closed', 'AbortError');

export interface TransferRequest {
  readonly digest: Digest;
  /** For messages. */
  readonly what: string;
  /** Bytes [start, end) of the blob; undefined means to its end. */
  readonly start: number;
  readonly end: number | undefined;
  /** Check the digest; only for the whole blob. */
  readonly verify: boolean;
  /** Sends a GET with these headers; answers 200 or 206. */
  readonly get: (headers: Record<string, string>, signal: AbortSignal) => Promise<HttpResponse>;
  /** The size of the blob when the answer does not tell it. */
  readonly size: (signal: AbortSignal) => Promise<number>;
}

interface OpenBody {
  readonly response: HttpResponse;
  /** Bytes before the wanted ones. */
  readonly skip: number;
  /** Size of the blob. */
  readonly total: number;
  /** Whether the body goes on after the wanted bytes. */
  readonly continues: boolean;
}

export class BlobTransfer {
  readonly #client: RegistryClient;
  readonly #request: TransferRequest;
  readonly #abort = new AbortController();
  readonly #total: number;
  #body: OpenBody;

  private constructor(client: RegistryClient, request: TransferRequest, abort: AbortController, body: OpenBody) {
    this.#client = client;
    this.#request = request;
    this.#abort = abort;
    this.#total = body.total;
    this.#body = body;
  }

  /** Resolves when the answer's head is in and right. Errors: those of `get`; RANGE_INVALID. */
  static async begin(
    client: RegistryClient,
    request: TransferRequest,
    signal: AbortSignal | undefined,
  ): Promise<BlobTransfer> {
    signal?.throwIfAborted();
    const abort = new AbortController();
    setMaxListeners(0, abort.signal);
    const onAbort = () => abort.abort(signal?.reason);
    signal?.addEventListener('abort', onAbort, { once: true });
    abort.signal.addEventListener('abort', () => signal?.removeEventListener('abort', onAbort), { once: true });
    try {
      return new BlobTransfer(client, request, abort, await openBody(client, request, request.start, abort.signal));
    } catch (error) {
      abort.abort(error);
      throw error;
    }
  }

  /** Size of the whole blob. */
  get total(): number {
    return this.#total;
  }

  close(): void {
    this.#abort.abort(closed);
    this.#body.response.body.on('error', () => {}).destroy();
  }

  /** Errors: TRUNCATED and other failures after the retries; DIGEST_INVALID and SIZE_INVALID when verifying; the signal's reason. */
  async *chunks(): AsyncGenerator<Uint8Array> {
    const { digest, start, verify } = this.#request;
    const stop = Math.min(this.#request.end ?? this.#total, this.#total);
    const hash = verify ? contentHash(digestAlgorithm(digest)) : undefined;
    let position = start;
    let failures = 0;
    let failedAt = start;
    for (;;) {
      try {
        for await (const chunk of this.#wanted(stop - position)) {
          position += chunk.byteLength;
          hash?.update(chunk);
          yield chunk;
        }
        if (position === stop) break;
        throw new RegistryError(
          'TRUNCATED',
          `${this.#request.what}: the body ended after ${position - start} of ${stop - start} bytes`,
        );
      } catch (error) {
        this.#abort.signal.throwIfAborted();
        const problem = bodyError(error, 'GET', this.#body.response.url);
        if (position === stop && problem.retryable) break;
        failures = position - failedAt < minProgressBytes ? failures + 1 : 1;
        failedAt = position;
        await this.#waitOrThrow(problem, failures);
        this.#body = await openBody(this.#client, this.#request, position, this.#abort.signal);
        if (this.#body.total !== this.#total) {
          discard(this.#body.response);
          throw new RegistryError(
            'RESPONSE_INVALID',
            `${this.#request.what}: had ${this.#total} bytes and now has ${this.#body.total}`,
          );
        }
      }
    }
    const wrong = hash === undefined ? null : contentProblem(digest, this.#total, hash.digest(), position);
    if (wrong !== null) throw wrong;
  }

  async #waitOrThrow(problem: RegistryError, failures: number): Promise<void> {
    const { options, retryBudget } = this.#client;
    const { backoff, timer } = options;
    if (retryDecision(problem) === undefined || failures >= backoff.attempts || !retryBudget.take()) throw problem;
    await timer.sleep(backoffDelay(backoff, failures - 1, timer.random()), this.#abort.signal);
  }

  /** The next `length` bytes after the skipped ones. A body that has more than it should is an error, unless the registry ignored the range. */
  async *#wanted(length: number): AsyncGenerator<Uint8Array> {
    const { response, continues } = this.#body;
    let toSkip = this.#body.skip;
    let left = length;
    if (left === 0) {
      discard(response);
      return;
    }
    for await (const chunk of response.body as AsyncIterable<Uint8Array>) {
      this.#client.options.onBytes(chunk.byteLength);
      const skipped = Math.min(toSkip, chunk.byteLength);
      toSkip -= skipped;
      const wanted = chunk.subarray(skipped, skipped + left);
      if (!continues && chunk.byteLength - skipped > left) {
        throw new RegistryError('RESPONSE_INVALID', `${this.#request.what}: the body is longer than announced`);
      }
      left -= wanted.byteLength;
      if (wanted.byteLength > 0) yield wanted;
      if (left === 0 && continues) return;
    }
  }
}

async function openBody(
  client: RegistryClient,
  request: TransferRequest,
  start: number,
  signal: AbortSignal,
): Promise<OpenBody> {
  const { end, what } = request;
  const ranged = start > 0 || end !== undefined;
  const response = await request.get(ranged ? { range: formatRange(start, end) } : {}, signal);
  try {
    const encoding = response.header('content-encoding') ?? 'identity';
    if (encoding !== 'identity')
      throw new RegistryError('RESPONSE_INVALID', `${what}: sent with content-encoding ${printable(encoding)}`);
    const contentLength = response.header('content-length');
    if (response.status === 206) {
      if (!ranged)
        throw new RegistryError('RANGE_INVALID', `${what}: asked for all of it, answered with a part`, { status: 206 });
      const got = checkPartialContent(
        what,
        { start, end },
        { contentRange: response.header('content-range'), contentLength },
      );
      const total = got.total ?? (await request.size(signal));
      if (got.total === undefined) checkEnd(what, got.end, end, total);
      return { response, skip: 0, total, continues: false };
    }
    const total = contentLength === undefined ? await request.size(signal) : Number(contentLength);
    if (ranged) checkIgnoredRange(client, request, start, total);
    return { response, skip: start, total, continues: end !== undefined && end < total };
  } catch (error) {
    response.body.on('error', () => {}).destroy();
    throw error;
  }
}

function checkEnd(what: string, gotEnd: number, end: number | undefined, total: number): void {
  if (gotEnd === Math.min(end ?? total, total)) return;
  throw new RegistryError('RANGE_INVALID', `${what}: the range answered ends at ${gotEnd} of ${total} bytes`, {
    status: 206,
  });
}

function checkIgnoredRange(client: RegistryClient, request: TransferRequest, start: number, total: number): void {
  const refuse = (why: string) => new RegistryError('RANGE_INVALID', `${request.what}: ${why}`, { status: 200 });
  if (start >= total) throw refuse(`asked for bytes from ${start}, it has ${total}`);
  // Judged by where the transfer began: one that broke later can only be continued by reading again what it has.
  if (request.start > maxSkipBytes) {
    throw refuse(`the registry ignores ranges (asked for bytes from ${start}, answered 200 with all of it)`);
  }
  client.warn(`${client.options.host} ignores ranges; reading from the start instead`);
}
