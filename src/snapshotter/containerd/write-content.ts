// Content.Write: one stream per blob, which holds the lock of its ref; what an earlier stream wrote under the ref is continued.
import { setTimeout as delay } from 'node:timers/promises';
import type { MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import type { Digest } from '../../oci/digest.ts';
import { Content, WriteAction } from '../gen/containerd/services/content/v1/content_pb.ts';
import type {
  WriteContentRequestSchema,
  WriteContentResponseSchema,
} from '../gen/containerd/services/content/v1/content_pb.ts';
import type { Labels } from '../layer-provider.ts';
import { ContentService } from './content.ts';
import { ContainerdError, isContainerdError } from './errors.ts';
import type { ContainerdSession } from './session.ts';

export interface ContentBody {
  readonly body: AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
  close(): void;
}

export interface WriteContentRequest {
  /** Names the write: whoever writes under the same ref waits, and continues what is there. */
  readonly ref: string;
  readonly digest: Digest;
  readonly size: number;
  /** The labels to set, given those that the blob has in this namespace. */
  readonly labels: (existing: Labels) => Labels;
  /** The bytes from `offset` to the end; called again after a failure that another attempt may mend. */
  readonly open: (offset: number) => Promise<ContentBody>;
  readonly signal: AbortSignal | undefined;
  /** Bytes that containerd has. */
  readonly onProgress?: ((done: number) => void) | undefined;
}

const chunkBytes = 1 << 20;
/** As long as a lease lives. */
const streamTimeoutMs = 86_400_000;
/** Somebody else writes the same blob: their progress is waited for, its absence no longer than this. */
const patienceMs = 120_000;
const longestWaitMs = 2_000;

type Exchange = {
  ask(
    request: MessageInitShape<typeof WriteContentRequestSchema>,
  ): Promise<MessageShape<typeof WriteContentResponseSchema>>;
};

/**
 * Brings a blob into the content store, unless it is there; containerd checks its digest. Returns the bytes that were asked of `open`. The lease of
 * the session gets the blob in any case. Errors: ContainerdError; those of `open` and of its body.
 */
export async function writeContent(session: ContainerdSession, request: WriteContentRequest): Promise<number> {
  const { digest, signal, labels } = request;
  const content = new ContentService(session);
  const others = new OtherWriter(content, request.ref, signal);
  let mended = false;
  for (;;) {
    let resumed = false;
    try {
      return await writeOnce(session, request, (offset) => (resumed = offset > 0));
    } catch (error) {
      signal?.throwIfAborted();
      if (isContainerdError(error, 'ERR_CONTAINERD_EXISTS')) {
        await content.setLabels(digest, labels((await content.labels(digest, { signal })) ?? {}), { signal });
        request.onProgress?.(request.size);
        return 0;
      }
      if (isContainerdError(error, 'ERR_CONTAINERD_UNAVAILABLE')) await others.wait(error);
      else if (resumed && !mended && isContainerdError(error, 'ERR_CONTAINERD_PRECONDITION')) {
        // What was there before is not the beginning of this blob.
        mended = true;
        await content.abort(request.ref, { signal });
      } else throw error;
    }
  }
}

async function writeOnce(
  session: ContainerdSession,
  request: WriteContentRequest,
  onOffset: (offset: number) => void,
): Promise<number> {
  const { ref, digest, size, signal, onProgress } = request;
  const exchange = session.exchange(Content.method.write, `write ${digest}`, { signal, timeoutMs: streamTimeoutMs });
  try {
    const total = BigInt(size);
    const started = await exchange.ask({ action: WriteAction.STAT, ref, total, expected: digest });
    const found = Number(started.offset);
    const offset = found <= size ? found : 0;
    onOffset(offset);
    onProgress?.(offset);
    if (offset < size || found !== offset) await send(exchange, request, offset);
    await exchange.ask({
      action: WriteAction.COMMIT,
      total,
      expected: digest,
      offset: total,
      labels: { ...request.labels({}) },
    });
    onProgress?.(size);
    return size - offset;
  } finally {
    exchange.close();
  }
}

async function send(exchange: Exchange, request: WriteContentRequest, offset: number): Promise<void> {
  const { digest, size, onProgress } = request;
  const source = await request.open(offset);
  let at = offset;
  try {
    for await (const data of inChunks(source.body)) {
      if (at + data.length > size) throw wrongSize(digest, `more than the ${size}`);
      const answer = await exchange.ask({ action: WriteAction.WRITE, offset: BigInt(at), data });
      at += data.length;
      if (Number(answer.offset) !== at) throw wrongSize(digest, `${answer.offset} of ${at} written`);
      onProgress?.(at);
    }
  } finally {
    source.close();
  }
  if (at !== size) throw wrongSize(digest, `${at}, not the ${size}`);
}

function wrongSize(digest: Digest, what: string): ContainerdError {
  return new ContainerdError('ERR_CONTAINERD_PRECONDITION', `${digest} has ${what} bytes announced`);
}

/** Messages of at most 1 MiB, and few small ones. */
async function* inChunks(body: ContentBody['body']): AsyncGenerator<Uint8Array> {
  let parts: Uint8Array[] = [];
  let size = 0;
  for await (let chunk of body) {
    while (size + chunk.length >= chunkBytes) {
      const room = chunkBytes - size;
      yield Buffer.concat([...parts, chunk.subarray(0, room)], chunkBytes);
      chunk = chunk.subarray(room);
      [parts, size] = [[], 0];
    }
    if (chunk.length > 0) parts.push(chunk);
    size += chunk.length;
  }
  if (size > 0) yield Buffer.concat(parts, size);
}

/** Waits while somebody else holds the ref and gets on with it. */
class OtherWriter {
  readonly #content: ContentService;
  readonly #ref: string;
  readonly #signal: AbortSignal | undefined;
  #waitMs = 50;
  #written = -1;
  #movedAt = performance.now();

  constructor(content: ContentService, ref: string, signal: AbortSignal | undefined) {
    this.#content = content;
    this.#ref = ref;
    this.#signal = signal;
  }

  /** Errors: `error` when nothing moves any more; ContainerdError when containerd itself is what is unavailable. */
  async wait(error: unknown): Promise<void> {
    const signal = this.#signal;
    const written = (await this.#content.written(this.#ref, { signal })) ?? -1;
    if (written > this.#written) [this.#written, this.#movedAt] = [written, performance.now()];
    else if (performance.now() - this.#movedAt > patienceMs) throw error;
    await delay(this.#waitMs, undefined, signal === undefined ? {} : { signal }).catch(() => {
      throw signal?.reason;
    });
    this.#waitMs = Math.min(longestWaitMs, this.#waitMs * 2);
  }
}
