// Unary gRPC calls as a kubelet makes them.
import { fromBinary, toBinary, create } from '@bufbuild/protobuf';
import type { DescMessage, MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import { Client, credentials, Metadata } from '@grpc/grpc-js';
import type { CallOptions, ServiceError } from '@grpc/grpc-js';
import { onTestFinished } from 'vitest';

export interface RawCall {
  readonly metadata?: Readonly<Record<string, string>>;
  readonly options?: CallOptions;
  /** Told how to cancel it. */
  readonly onStart?: (cancel: () => void) => void;
}

export class GrpcClient {
  readonly #client: Client;

  /** Closed when the test ends. */
  constructor(socket: string) {
    this.#client = new Client(`unix:${socket}`, credentials.createInsecure());
    onTestFinished(() => this.#client.close());
  }

  /** Rejects with the ServiceError. */
  raw(method: string, request: Uint8Array, call: RawCall = {}): Promise<{ bytes: Buffer; trailer: Metadata }> {
    const metadata = new Metadata();
    for (const [name, value] of Object.entries(call.metadata ?? {})) metadata.set(name, value);
    return new Promise((resolve, reject) => {
      let bytes: Buffer | undefined;
      let failure: ServiceError | undefined;
      const identity = (value: Buffer) => value;
      const made = this.#client.makeUnaryRequest(
        method,
        identity,
        identity,
        Buffer.from(request),
        metadata,
        { deadline: Date.now() + 30_000, ...call.options },
        (error, value) => {
          failure = error ?? undefined;
          bytes = value;
        },
      );
      made.once('status', ({ metadata: trailer }) => {
        // The callback comes in the same turn, before or after this.
        setImmediate(() =>
          failure === undefined ? resolve({ bytes: bytes ?? Buffer.alloc(0), trailer }) : reject(failure),
        );
      });
      call.onStart?.(() => made.cancel());
    });
  }

  /** All messages of a stream. Rejects with the ServiceError. */
  async stream(method: string, request: Uint8Array): Promise<Buffer[]> {
    const identity = (value: Buffer) => value;
    const call = this.#client.makeServerStreamRequest(
      method,
      identity,
      identity,
      Buffer.from(request),
      new Metadata(),
      {
        deadline: Date.now() + 30_000,
      },
    );
    const messages: Buffer[] = [];
    for await (const message of call as AsyncIterable<Buffer>) messages.push(message);
    return messages;
  }

  async call<I extends DescMessage, O extends DescMessage>(
    method: string,
    input: I,
    output: O,
    request: MessageInitShape<I>,
    call?: RawCall,
  ): Promise<MessageShape<O>> {
    const { bytes } = await this.raw(method, toBinary(input, create(input, request)), call);
    return fromBinary(output, bytes);
  }
}
