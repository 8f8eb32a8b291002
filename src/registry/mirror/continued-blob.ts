// A blob or a range of one from several endpoints: where one breaks off, the next goes on at the very next byte.
import type { Digest } from '../../oci/digest.ts';
import { RegistryError, hasCode } from '../errors.ts';
import type { BlobReader, CallOptions, Registry } from '../interface.ts';
import { CallScope, scopedReader } from '../streams/call-scope.ts';
import type { Fallback } from './fallback.ts';
import { verifiedChunks } from '../streams/verified-chunks.ts';

export interface BlobRequest {
  readonly repository: string;
  readonly digest: Digest;
  /** Undefined for the whole blob, which is verified. */
  readonly range: { readonly start: number; readonly end: number | undefined } | undefined;
}

/** Errors: those of `Fallback.next`; on the stream too, and there DIGEST_INVALID when bytes were given out that turn out to be wrong. */
export async function openContinued(
  fallbackBy: (signal: AbortSignal) => Fallback,
  request: BlobRequest,
  options: CallOptions,
): Promise<BlobReader> {
  const scope = new CallScope(options.signal);
  try {
    const transfer = new Transfer(fallbackBy(scope.signal), request, { ...options, signal: scope.signal });
    const first = await transfer.open(request.range?.start ?? 0);
    scope.onEnd(() => transfer.close());
    return scopedReader(first.descriptor, request.range === undefined ? transfer.whole() : transfer.chunks(), scope);
  } catch (error) {
    scope.end();
    throw error;
  }
}

/** What is asked for, or the rest of it from `position` on. */
export async function openBlob(
  registry: Registry,
  { repository, digest, range }: BlobRequest,
  position: number | undefined,
  options: CallOptions,
): Promise<BlobReader> {
  const start = position ?? range?.start ?? 0;
  return range === undefined && start === 0
    ? await registry.getBlob(repository, digest, options)
    : await registry.getBlobRange(repository, digest, start, range?.end, options);
}

class Transfer {
  readonly #fallback: Fallback;
  readonly #request: BlobRequest;
  readonly #options: CallOptions & { readonly signal: AbortSignal };
  #reader: BlobReader | undefined;

  constructor(fallback: Fallback, request: BlobRequest, options: CallOptions & { readonly signal: AbortSignal }) {
    this.#fallback = fallback;
    this.#request = request;
    this.#options = options;
  }

  close(): void {
    this.#reader?.close();
  }

  /** At the next endpoint, from `position` on. */
  async open(position: number): Promise<BlobReader> {
    this.close();
    const size = this.#reader?.descriptor.size;
    const reader = await this.#fallback.next(async (registry) =>
      size === undefined ? await this.#open(registry, position) : await this.#reopen(registry, position, size),
    );
    // It may break while nobody reads it.
    reader.body.on('error', () => {});
    this.#reader = reader;
    // An endpoint that does not look at its signal answers after everything was closed.
    if (this.#options.signal.aborted) this.close();
    this.#options.signal.throwIfAborted();
    return reader;
  }

  /** Checked at the end. What is wrong is asked for again elsewhere as long as none of it was given out. */
  async *whole(): AsyncGenerator<Uint8Array> {
    const { descriptor } = this.#opened;
    for (;;) {
      let given = 0;
      try {
        for await (const chunk of verifiedChunks(this.chunks(), descriptor)) {
          given += chunk.byteLength;
          yield chunk;
        }
        return;
      } catch (error) {
        if (!hasCode(error, 'DIGEST_INVALID', 'SIZE_INVALID')) throw error;
        this.#fallback.failed(error);
        if (given > 0) throw error;
        await this.open(0);
      }
    }
  }

  async *chunks(): AsyncGenerator<Uint8Array> {
    const { start = 0, end = Number.POSITIVE_INFINITY } = this.#request.range ?? {};
    const stop = Math.min(end, this.#opened.descriptor.size);
    for (let position = start; ; ) {
      try {
        for await (const chunk of this.#opened.body as AsyncIterable<Uint8Array>) {
          if (position + chunk.byteLength > stop) throw this.#wrongLength('more', stop - start);
          position += chunk.byteLength;
          yield chunk;
        }
        if (position < stop) throw this.#wrongLength('less', stop - start);
        this.#fallback.succeeded();
        return;
      } catch (error) {
        // After the last byte this is the endpoint's view of the digest, which is checked here as well, or no loss.
        if (position === stop) return;
        this.#fallback.failed(error);
        await this.open(position);
      }
    }
  }

  get #opened(): BlobReader {
    if (this.#reader === undefined) throw new TypeError('the transfer was not opened');
    return this.#reader;
  }

  async #open(registry: Registry, position: number): Promise<BlobReader> {
    return await openBlob(registry, this.#request, position, this.#options);
  }

  async #reopen(registry: Registry, position: number, size: number): Promise<BlobReader> {
    let reader;
    try {
      reader = await this.#open(registry, position);
    } catch (error) {
      // The caller's range was fine at the endpoint before.
      if (hasCode(error, 'RANGE_INVALID')) throw new RegistryError('RESPONSE_INVALID', error.message, { cause: error });
      throw error;
    }
    const found = reader.descriptor.size;
    if (found === size) return reader;
    reader.close();
    throw new RegistryError(
      'RESPONSE_INVALID',
      `blob ${this.#request.digest} has ${found} bytes, and ${size} at the endpoint before`,
    );
  }

  #wrongLength(what: 'more' | 'less', wanted: number): RegistryError {
    const code = what === 'less' ? 'TRUNCATED' : 'RESPONSE_INVALID';
    return new RegistryError(
      code,
      `blob ${this.#request.digest}: the body has ${what} than the ${wanted} bytes asked for`,
    );
  }
}
