import type { Descriptor } from '../../oci/descriptor.ts';
import type { Digest } from '../../oci/digest.ts';
import type { BlobWriter, CallOptions } from '../interface.ts';
import type { TracedCall } from './traced-call.ts';

/** An upload whose call ends when it is committed, closed or cancelled. */
export class TracedWriter implements BlobWriter {
  readonly #inner: BlobWriter;
  readonly #call: TracedCall;
  #failed: (() => void) | undefined;

  constructor(inner: BlobWriter, call: TracedCall) {
    this.#inner = inner;
    this.#call = call;
  }

  get id(): string {
    return this.#inner.id;
  }

  get size(): number {
    return this.#inner.size;
  }

  get chunkSize(): number {
    return this.#inner.chunkSize;
  }

  async write(chunk: Uint8Array, options: CallOptions = {}): Promise<void> {
    try {
      await this.#inner.write(chunk, options);
      this.#call.add(chunk.byteLength);
    } catch (error) {
      // The user goes on or gives up; only then is it known how the call ended.
      this.#failed = () => this.#call.fail(error, options.signal);
      throw error;
    }
  }

  async close(): Promise<void> {
    await this.#leave(() => this.#inner.close());
  }

  async commit(digest: Digest, options: CallOptions = {}): Promise<Descriptor> {
    try {
      const descriptor = await this.#inner.commit(digest, options);
      this.#call.end('ok', { digest });
      return descriptor;
    } catch (error) {
      this.#call.fail(error, options.signal);
      throw error;
    }
  }

  async cancel(): Promise<void> {
    await this.#leave(() => this.#inner.cancel());
  }

  async #leave(work: () => Promise<void>): Promise<void> {
    this.#failed?.();
    try {
      await work();
      this.#call.end('closed');
    } catch (error) {
      this.#call.fail(error);
      throw error;
    }
  }
}
