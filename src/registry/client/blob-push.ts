// Pushing a blob whose content can be read again (distribution spec, "POST then PUT"): one session with one PUT. When that breaks, the
// session is asked how far it got and the rest is sent; where it cannot be continued, a new session begins from the start.
import { Transform } from 'node:stream';
import type { Readable } from 'node:stream';
import type { Descriptor } from '../../oci/descriptor.ts';
import { VerifyingStream } from '../blob-content.ts';
import { RegistryError } from '../errors.ts';
import type { CallOptions } from '../interface.ts';
import { discard } from './registry-client.ts';
import { algorithmQuery, withDigest } from './uploads.ts';
import type { UploadCalls } from './uploads.ts';

const maxAbandonMs = 2_000;

export class BlobPush {
  readonly #uploads: UploadCalls;
  readonly #repository: string;
  readonly #descriptor: Descriptor;
  readonly #body: () => Readable;
  readonly #options: CallOptions;
  /** Of the attempt under way, or of the one that broke. */
  #session: URL | undefined;

  /** `body` is called once per attempt, and gives the content from its start each time. */
  constructor(
    uploads: UploadCalls,
    repository: string,
    descriptor: Descriptor,
    body: () => Readable,
    options: CallOptions = {},
  ) {
    this.#uploads = uploads;
    this.#repository = repository;
    this.#descriptor = descriptor;
    this.#body = body;
    this.#options = options;
  }

  /** A session that is given up is ended. Errors: DIGEST_INVALID, SIZE_INVALID, what the body failed with, those of the exchange. */
  async run(): Promise<void> {
    try {
      await this.#uploads.client.retry(() => this.#attempt(), this.#options.signal);
    } catch (error) {
      await this.#abandon();
      throw error;
    }
  }

  async #attempt(): Promise<void> {
    const broken = this.#session;
    if (broken !== undefined) {
      if (await this.#uploads.holds(this.#repository, this.#descriptor, this.#options)) return;
      if (await this.#continued(broken)) return;
      await this.#uploads.cancel(broken, this.#repository, this.#options);
      this.#session = undefined;
    }
    const query = { 'digest-algorithm': algorithmQuery(this.#descriptor.digest) };
    const { location } = await this.#uploads.start(this.#repository, query, { ...this.#options, attempts: 'once' });
    this.#session = location;
    await this.#put(location, 0);
  }

  /** False when the session is gone, has more than the blob, or does not take the rest: only a new one can help then. */
  async #continued(session: URL): Promise<boolean> {
    try {
      const options = { ...this.#options, attempts: 'once' } as const;
      const { location, last } = await this.#uploads.status(session, this.#repository, options);
      this.#session = location;
      // A last byte of 0 may also mean that there is none. If there is one, the session refuses what comes and is given up.
      const offset = last === undefined || last === 0 ? 0 : last + 1;
      if (offset > this.#descriptor.size) return false;
      await this.#put(location, offset);
      return true;
    } catch (error) {
      this.#options.signal?.throwIfAborted();
      // A refusal by the registry is about the session and what it holds; what the body failed with is not.
      if (error instanceof RegistryError && error.status !== undefined && !error.retryable) return false;
      throw error;
    }
  }

  async #put(session: URL, offset: number): Promise<void> {
    const { digest, size } = this.#descriptor;
    const range = offset > 0 && offset < size ? { 'content-range': `${offset}-${size - 1}` } : {};
    const response = await this.#uploads.client.send({
      ...this.#uploads.request(this.#repository),
      method: 'PUT',
      url: withDigest(session, digest),
      headers: { 'content-type': 'application/octet-stream', ...range },
      body: { size: size - offset, open: () => skipped(verified(this.#descriptor, this.#body()), offset) },
      accept: [201, 204],
      attempts: 'once',
      ...this.#options,
    });
    discard(response);
  }

  /** After a failure or an abort, so it does not wait long. */
  async #abandon(): Promise<void> {
    if (this.#session === undefined) return;
    const signal = AbortSignal.timeout(maxAbandonMs);
    await this.#uploads.cancel(this.#session, this.#repository, { signal }).catch(() => {});
  }
}

function verified(descriptor: Descriptor, source: Readable): Readable {
  return piped(source, new VerifyingStream(descriptor.digest, descriptor.size));
}

/** The bytes of `source` from `offset` on. */
function skipped(source: Readable, offset: number): Readable {
  if (offset === 0) return source;
  let left = offset;
  const transform = (chunk: Uint8Array, _: BufferEncoding, done: (error: null, rest?: Uint8Array) => void) => {
    const drop = Math.min(left, chunk.byteLength);
    left -= drop;
    done(null, drop === chunk.byteLength ? undefined : chunk.subarray(drop));
  };
  return piped(source, new Transform({ transform }));
}

/** Either end takes the other with it. */
function piped(source: Readable, target: Transform): Readable {
  source.once('error', (error) => target.destroy(error));
  target.once('close', () => source.destroy());
  return source.pipe(target);
}
