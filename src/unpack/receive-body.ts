import { RegistryError } from '../registry/errors.ts';
import type { BlobReader } from '../registry/registry.ts';
import { Deferred } from '../util/deferred.ts';

/**
 * Hands each piece of a body to `take` as it arrives, without a promise for each. What `take` returns pauses the body until it resolves. The reader
 * is closed in the end. Errors: those of the body and of `take`; TRUNCATED when it is closed by somebody else; the signal's reason.
 */
export async function receiveBody(
  reader: BlobReader,
  take: (piece: Uint8Array) => Promise<void> | undefined,
  signal: AbortSignal,
): Promise<void> {
  const { body } = reader;
  const ended = new Deferred<void>();
  let pause: Promise<void> | undefined;
  const fail = (error: unknown) => ended.reject(error);
  const resume = () => {
    if (!ended.settled) body.resume();
  };
  const onData = (piece: Uint8Array) => {
    if (ended.settled) return;
    try {
      pause = take(piece);
      if (pause === undefined) return;
      body.pause();
      pause.then(resume, fail);
    } catch (error) {
      fail(error);
    }
  };
  const onClose = () => fail(new RegistryError('TRUNCATED', 'the transfer was closed before its end'));
  const onAbort = () => fail(signal.reason);
  body.on('data', onData);
  body.once('end', () => ended.resolve());
  // It stays: a body that is closed early may fail after that.
  body.on('error', fail);
  body.once('close', onClose);
  signal.addEventListener('abort', onAbort, { once: true });
  if (signal.aborted) onAbort();
  else if (body.closed) onClose();
  try {
    await ended.promise;
    // A body that is paused at its last piece ends all the same.
    await pause;
  } finally {
    signal.removeEventListener('abort', onAbort);
    body.off('data', onData);
    reader.close();
  }
}
