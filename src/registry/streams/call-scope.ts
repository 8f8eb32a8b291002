import { setMaxListeners } from 'node:events';
import type { Descriptor } from '../../oci/descriptor.ts';
import { PulledStream } from './pulled-stream.ts';
import type { BlobReader } from '../interface.ts';

/** One for all: making it costs as much as the rest of ending a transfer, and its stack tells nobody anything. */
const closed = new DOMException('the transfer was closed', 'AbortError');

/** A signal of our own for what one call started: it follows the caller's, and `end` ends it as well. */
export class CallScope {
  readonly #abort = new AbortController();

  /** Errors: the reason of a signal that is aborted already. */
  constructor(caller: AbortSignal | undefined) {
    caller?.throwIfAborted();
    setMaxListeners(0, this.#abort.signal);
    const follow = () => this.#abort.abort(caller?.reason);
    caller?.addEventListener('abort', follow, { once: true });
    this.onEnd(() => caller?.removeEventListener('abort', follow));
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** Runs `work` once when the scope ends, however that comes. */
  onEnd(work: () => void): void {
    if (this.#abort.signal.aborted) work();
    else this.#abort.signal.addEventListener('abort', work, { once: true });
  }

  /** Idempotent. */
  end(): void {
    this.#abort.abort(closed);
  }
}

/** A reader over `chunks`, which end by the scope's signal; the scope ends with the reader. */
export function scopedReader(descriptor: Descriptor, chunks: AsyncIterable<Uint8Array>, scope: CallScope): BlobReader {
  const body = new PulledStream(chunks, () => scope.end());
  return { descriptor, body, close: () => void body.on('error', () => {}).destroy() };
}
