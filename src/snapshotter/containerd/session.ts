// One namespace, and at times one lease, of a containerd: what its services share.
import { once } from 'node:events';
import { connect } from 'node:net';
import type { DescMessage, DescMethod, MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import { untilAborted } from '../../util/until-aborted.ts';
import { GrpcClient } from '../grpc/client.ts';
import type { GrpcExchange } from '../grpc/client.ts';
import { connectError, containerdErrorFrom, timeoutError } from './errors.ts';

/** containerd's garbage collector may hold its database for that long on a large node. */
const callTimeoutMs = 120_000;
const connectTimeoutMs = 10_000;

export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
  /** Default two minutes. */
  readonly timeoutMs?: number | undefined;
}

type Kind<K extends DescMethod['methodKind'], I extends DescMessage, O extends DescMessage> = DescMethod & {
  readonly methodKind: K;
  readonly input: I;
  readonly output: O;
};

export interface SessionOptions {
  /** Path of the unix socket, with or without `unix://`. */
  readonly address: string;
  readonly namespace: string;
}

/** Errors of all calls: ContainerdError, the signal's reason. */
export class ContainerdSession {
  readonly address: string;
  readonly namespace: string;
  readonly #client: GrpcClient;

  private constructor(options: SessionOptions, lease: string | undefined) {
    this.address = options.address.replace(/^unix:\/\//, '');
    this.namespace = options.namespace;
    this.#client = new GrpcClient(this.address, {
      'containerd-namespace': options.namespace,
      ...(lease === undefined ? {} : { 'containerd-lease': lease }),
    });
  }

  /** Errors: ERR_CONTAINERD_UNREACHABLE, ERR_CONTAINERD_PERMISSION. */
  static async open(options: SessionOptions, { signal }: CallOptions = {}): Promise<ContainerdSession> {
    const session = new ContainerdSession(options, undefined);
    await session.#checkAddress(signal);
    return session;
  }

  /** Whatever is made through it belongs to the lease. */
  withLease(lease: string): ContainerdSession {
    return new ContainerdSession(this, lease);
  }

  /** `what` is for messages: `prepare the snapshot sha256:…`. */
  async call<I extends DescMessage, O extends DescMessage>(
    method: Kind<'unary', I, O>,
    what: string,
    request: MessageInitShape<I>,
    { signal, timeoutMs = callTimeoutMs }: CallOptions = {},
  ): Promise<MessageShape<O>> {
    try {
      return await this.#client.unary(method, request, { signal, timeoutMs });
    } catch (error) {
      throw this.#failure(error, what, signal);
    }
  }

  async *stream<I extends DescMessage, O extends DescMessage>(
    method: Kind<'server_streaming', I, O>,
    what: string,
    request: MessageInitShape<I>,
    { signal, timeoutMs = callTimeoutMs }: CallOptions = {},
  ): AsyncGenerator<MessageShape<O>, void, undefined> {
    try {
      yield* this.#client.serverStream(method, request, { signal, timeoutMs });
    } catch (error) {
      throw this.#failure(error, what, signal);
    }
  }

  /** Every question has its own time limit, the whole exchange has `timeoutMs`. The caller closes it. */
  exchange<I extends DescMessage, O extends DescMessage>(
    method: Kind<'bidi_streaming', I, O>,
    what: string,
    { signal, timeoutMs = callTimeoutMs }: CallOptions = {},
  ): Pick<GrpcExchange<I, O>, 'ask' | 'close'> {
    const exchange = this.#client.exchange(method, { signal, timeoutMs });
    const ask = async (request: MessageInitShape<I>): Promise<MessageShape<O>> => {
      const limit = AbortSignal.timeout(callTimeoutMs);
      try {
        return await untilAborted(exchange.ask(request), limit);
      } catch (error) {
        throw limit.aborted ? timeoutError(what, this.address) : this.#failure(error, what, signal);
      }
    };
    return { ask, close: () => exchange.close() };
  }

  /** Idempotent. */
  close(): void {
    this.#client.close();
  }

  #failure(error: unknown, what: string, signal: AbortSignal | undefined): unknown {
    return signal?.aborted ? signal.reason : containerdErrorFrom(error, what, this.address);
  }

  /** grpc-js tells why it cannot connect only in words. */
  async #checkAddress(signal: AbortSignal | undefined): Promise<void> {
    const socket = connect(this.address);
    const limit = AbortSignal.timeout(connectTimeoutMs);
    try {
      await once(socket, 'connect', { signal: signal === undefined ? limit : AbortSignal.any([signal, limit]) });
    } catch (error) {
      signal?.throwIfAborted();
      this.close();
      throw connectError(limit.aborted ? 'no answer' : error, this.address);
    } finally {
      socket.on('error', () => {}).destroy();
    }
  }
}
