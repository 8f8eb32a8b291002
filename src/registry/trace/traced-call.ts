// One call while it runs: what is counted, and the one event at its end.
import { Transform, finished, pipeline } from 'node:stream';
import type { Readable } from 'node:stream';
import { RegistryError } from '../errors.ts';
import type { RegistryErrorCode } from '../errors.ts';
import type { BlobReader, BlobWriter, CallOptions, ManifestContent, Registry } from '../interface.ts';
import { TracedWriter } from './traced-writer.ts';

/** What a call was about, in the caller's words: a name need not be one, and is cut after 300 characters. */
export interface TraceSubject {
  readonly repository?: string | undefined;
  /** The source of a mount. */
  readonly fromRepository?: string | undefined;
  readonly digest?: string | undefined;
  readonly tag?: string | undefined;
  /** Bytes [start, end) of a blob. */
  readonly range?: { readonly start: number; readonly end: number | undefined } | undefined;
}

/** `closed` is a body, a list or an upload that its user left before the end; `aborted` is the caller's signal. */
export type TraceOutcome = 'ok' | 'closed' | 'aborted' | RegistryErrorCode;

export interface TraceEvent extends TraceSubject {
  readonly operation: keyof Registry;
  readonly durationMs: number;
  readonly outcome: TraceOutcome;
  /** Content that was read from the registry or given to it; a body that was opened again counts again. */
  readonly bytes?: number | undefined;
  /** Of a list. */
  readonly items?: number | undefined;
}

/** What it throws or rejects with is dropped. */
export type TraceSink = (event: TraceEvent) => void | Promise<void>;

export class TracedCall {
  readonly #sink: TraceSink;
  readonly #operation: keyof Registry;
  readonly #subject: TraceSubject;
  readonly #signal: AbortSignal | undefined;
  readonly #began = performance.now();
  #bytes: number | undefined;
  #items: number | undefined;
  #ended = false;

  constructor(sink: TraceSink, operation: keyof Registry, subject: TraceSubject, options: CallOptions = {}) {
    this.#sink = sink;
    this.#operation = operation;
    this.#subject = subject;
    this.#signal = options.signal;
  }

  /** A call that ends with its promise. `learn` says what the result tells about it. */
  async whole<T>(work: () => Promise<T>, learn: (result: T) => TraceSubject = () => ({})): Promise<T> {
    const result = await this.#begun(work);
    this.end('ok', learn(result));
    return result;
  }

  async manifest(work: () => Promise<ManifestContent>): Promise<ManifestContent> {
    return await this.whole(work, ({ descriptor, bytes }) => {
      this.add(bytes.byteLength);
      return { digest: descriptor.digest };
    });
  }

  /** A call that ends with the body it gave. */
  async reader(open: () => Promise<BlobReader>): Promise<BlobReader> {
    this.add(0);
    const reader = await this.#begun(open);
    const body = this.counted(reader.body);
    finished(body, { writable: false }, (error) => {
      if (error === undefined || error === null) this.end('ok');
      // Only a stream that its user destroyed is closed early without an error of its own.
      else if (body.errored === null) this.end('closed');
      else this.fail(error);
    });
    const close = () => {
      body.destroy();
      reader.close();
    };
    return { descriptor: reader.descriptor, body, close };
  }

  /** A call that ends with the upload it began. */
  async writer(open: () => Promise<BlobWriter>): Promise<BlobWriter> {
    this.add(0);
    return new TracedWriter(await this.#begun(open), this);
  }

  /** A call that ends with its list. */
  async *list<T>(items: AsyncIterable<T>): AsyncGenerator<T> {
    this.#items = 0;
    try {
      for await (const item of items) {
        this.#items += 1;
        yield item;
      }
      this.end('ok');
    } catch (error) {
      this.fail(error);
      throw error;
    } finally {
      this.end('closed');
    }
  }

  counted(source: Readable): Readable {
    const counter = new Transform({
      transform: (chunk: Uint8Array, _encoding, callback) => {
        this.add(chunk.byteLength);
        callback(null, chunk);
      },
    });
    return pipeline(source, counter, () => {});
  }

  /** Bytes that went by. */
  add(bytes: number): void {
    this.#bytes = (this.#bytes ?? 0) + bytes;
  }

  fail(error: unknown, signal = this.#signal): void {
    if (signal?.aborted === true) this.end('aborted');
    else this.end(error instanceof RegistryError ? error.code : 'UNKNOWN');
  }

  /** The first one counts. */
  end(outcome: TraceOutcome, learned: TraceSubject = {}): void {
    if (this.#ended) return;
    this.#ended = true;
    const event: TraceEvent = {
      operation: this.#operation,
      ...cut({ ...this.#subject, ...learned }),
      durationMs: performance.now() - this.#began,
      outcome,
      ...(this.#bytes === undefined ? {} : { bytes: this.#bytes }),
      ...(this.#items === undefined ? {} : { items: this.#items }),
    };
    (async () => await this.#sink(event))().catch(() => {});
  }

  async #begun<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      this.fail(error);
      throw error;
    }
  }
}

function cut(subject: TraceSubject): TraceSubject {
  const entries = Object.entries(subject).filter(([, value]) => value !== undefined);
  return Object.fromEntries(
    entries.map(([key, value]) => [key, typeof value === 'string' ? value.slice(0, 300) : value]),
  );
}
