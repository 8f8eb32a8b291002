import type { BlobSource } from '../layer/blob-source.ts';
import { blobStream } from '../layer/blob-stream.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { CallScope } from '../registry/streams/call-scope.ts';
import type { BlobFeed } from './blob-feed.ts';
import { UnpackError } from './errors.ts';
import { fetchError } from './feed-errors.ts';

/** A blob that somebody else gives, one piece after the other, and that is not kept here. */
export function sourceFeed(kind: BlobFeed['kind'], source: BlobSource, descriptor: Descriptor): BlobFeed {
  const closing = new AbortController();
  const closed = new UnpackError('ERR_UNPACK_CANCELLED', `reading ${source.name} was ended`);
  async function* stream(signal: AbortSignal): AsyncGenerator<Uint8Array> {
    closing.signal.throwIfAborted();
    const scope = new CallScope(signal);
    const onClose = () => scope.end();
    closing.signal.addEventListener('abort', onClose, { once: true });
    try {
      for await (const piece of blobStream(source, descriptor.size, { signal: scope.signal })) {
        scope.signal.throwIfAborted();
        yield piece;
      }
    } catch (cause) {
      signal.throwIfAborted();
      closing.signal.throwIfAborted();
      const failure = fetchError(source.name, cause);
      // The registry may have what somebody on this machine gives no more.
      if (kind === 'job' || failure.code !== 'ERR_UNPACK_FETCH') throw failure;
      throw new UnpackError('ERR_UNPACK_BLOB_MISSING', failure.message, { cause });
    } finally {
      closing.signal.removeEventListener('abort', onClose);
      scope.end();
    }
  }
  return {
    kind,
    path: undefined,
    source,
    stream: ({ signal }) => stream(signal),
    close: async () => closing.abort(closed),
  };
}
