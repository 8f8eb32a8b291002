// A gRPC client of protobuf-es services on a unix socket. Every call has a deadline and a signal.
import type { DescMessage, DescMethod, MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { Client, Metadata, credentials } from '@grpc/grpc-js';
import type { CallOptions, ClientDuplexStream, ClientReadableStream } from '@grpc/grpc-js';

/** containerd sends at most 16 MiB; its own clients take as much. */
const maxMessageBytes = 16 << 20;

type Method<Kind extends DescMethod['methodKind'], I extends DescMessage, O extends DescMessage> = DescMethod & {
  readonly methodKind: Kind;
  readonly input: I;
  readonly output: O;
};

export interface GrpcCallOptions {
  readonly signal?: AbortSignal | undefined;
  /** ms from the call to DEADLINE_EXCEEDED. */
  readonly timeoutMs: number;
}

/** Errors of all calls: `ServiceError` of grpc-js, whose `code` is a number; the signal's reason. Connects with the first call. */
export class GrpcClient {
  readonly #client: Client;
  readonly #metadata: Metadata;

  /** `metadata` goes with every call. */
  constructor(socket: string, metadata: Readonly<Record<string, string>> = {}) {
    this.#client = new Client(`unix:${socket}`, credentials.createInsecure(), {
      'grpc.max_receive_message_length': maxMessageBytes,
      'grpc.max_send_message_length': maxMessageBytes,
      'grpc.enable_http_proxy': 0,
      // Clients with the same address would share a connection, and one that is closed would end the calls of the others.
      'grpc.use_local_subchannel_pool': 1,
    });
    this.#metadata = new Metadata();
    for (const [name, value] of Object.entries(metadata)) this.#metadata.set(name, value);
  }

  async unary<I extends DescMessage, O extends DescMessage>(
    method: Method<'unary', I, O>,
    request: MessageInitShape<I>,
    { signal, timeoutMs }: GrpcCallOptions,
  ): Promise<MessageShape<O>> {
    signal?.throwIfAborted();
    const { path, serialize, deserialize } = wire(method);
    let onAbort = () => {};
    try {
      return await new Promise<MessageShape<O>>((resolve, reject) => {
        const call = this.#client.makeUnaryRequest(
          path,
          serialize,
          deserialize,
          create(method.input, request),
          this.#metadata,
          deadline(timeoutMs),
          (error, answer) => {
            if (answer !== undefined && error === null) resolve(answer);
            else reject(error ?? new Error(`${path}: no answer`));
          },
        );
        onAbort = () => call.cancel();
        signal?.addEventListener('abort', onAbort, { once: true });
      });
    } catch (error) {
      signal?.throwIfAborted();
      throw error;
    } finally {
      signal?.removeEventListener('abort', onAbort);
    }
  }

  /** Leaving the loop early ends the call. */
  async *serverStream<I extends DescMessage, O extends DescMessage>(
    method: Method<'server_streaming', I, O>,
    request: MessageInitShape<I>,
    { signal, timeoutMs }: GrpcCallOptions,
  ): AsyncGenerator<MessageShape<O>, void, undefined> {
    signal?.throwIfAborted();
    const { path, serialize, deserialize } = wire(method);
    const message = create(method.input, request);
    const call: ClientReadableStream<MessageShape<O>> = this.#client.makeServerStreamRequest(
      path,
      serialize,
      deserialize,
      message,
      this.#metadata,
      deadline(timeoutMs),
    );
    const onAbort = () => call.cancel();
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      for await (const answer of call as AsyncIterable<MessageShape<O>>) yield answer;
    } catch (error) {
      signal?.throwIfAborted();
      throw error;
    } finally {
      signal?.removeEventListener('abort', onAbort);
      // What was cancelled reports it once more, to nobody.
      call.on('error', () => {}).cancel();
    }
  }

  /** A call of one answer per request, in turn. */
  exchange<I extends DescMessage, O extends DescMessage>(
    method: Method<'bidi_streaming', I, O>,
    { signal, timeoutMs }: GrpcCallOptions,
  ): GrpcExchange<I, O> {
    signal?.throwIfAborted();
    const { path, serialize, deserialize } = wire(method);
    const call = this.#client.makeBidiStreamRequest(path, serialize, deserialize, this.#metadata, deadline(timeoutMs));
    return new GrpcExchange(method.input, call, signal);
  }

  /** No more calls. Idempotent. */
  close(): void {
    this.#client.close();
  }
}

export class GrpcExchange<I extends DescMessage, O extends DescMessage> {
  readonly #input: I;
  readonly #call: ClientDuplexStream<MessageShape<I>, MessageShape<O>>;
  readonly #answers: AsyncIterator<MessageShape<O>>;
  readonly #signal: AbortSignal | undefined;
  readonly #onAbort = () => this.#call.cancel();

  constructor(input: I, call: ClientDuplexStream<MessageShape<I>, MessageShape<O>>, signal: AbortSignal | undefined) {
    this.#input = input;
    this.#call = call;
    this.#signal = signal;
    // Whoever asks next sees it; nobody may be asking just now.
    call.on('error', () => {});
    this.#answers = (call as AsyncIterable<MessageShape<O>>)[Symbol.asyncIterator]();
    signal?.addEventListener('abort', this.#onAbort, { once: true });
  }

  async ask(request: MessageInitShape<I>): Promise<MessageShape<O>> {
    try {
      this.#call.write(create(this.#input, request));
      const next = await this.#answers.next();
      if (next.done === true) throw new Error('the stream ended without an answer');
      return next.value;
    } catch (error) {
      this.#signal?.throwIfAborted();
      throw error;
    }
  }

  /** Idempotent. */
  close(): void {
    this.#signal?.removeEventListener('abort', this.#onAbort);
    this.#call.cancel();
  }
}

function wire<I extends DescMessage, O extends DescMessage>({
  parent,
  name,
  input,
  output,
}: {
  readonly parent: DescMethod['parent'];
  readonly name: string;
  readonly input: I;
  readonly output: O;
}) {
  return {
    path: `/${parent.typeName}/${name}`,
    serialize: (message: MessageShape<I>) => Buffer.from(toBinary(input, message)),
    deserialize: (bytes: Buffer): MessageShape<O> => fromBinary(output, bytes),
  };
}

function deadline(timeoutMs: number): CallOptions {
  return { deadline: Date.now() + timeoutMs };
}
