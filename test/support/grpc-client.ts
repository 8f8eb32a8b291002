// Calls of one gRPC method on a unix socket, typed by its description.
import {
  create,
  type DescMessage,
  type DescMethodServerStreaming,
  type DescMethodUnary,
  fromBinary,
  toBinary,
} from '@bufbuild/protobuf';
import type { MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import { Client, credentials, type ServiceError } from '@grpc/grpc-js';

const deadlineMs = 60_000;

export class GrpcClient {
  readonly #client: Client;

  constructor(socket: string) {
    // containerd refuses the authority that grpc-js makes of a path.
    const options = { 'grpc.default_authority': 'localhost' };
    this.#client = new Client(`unix://${socket}`, credentials.createInsecure(), options);
  }

  /** Rejects with grpc-js' ServiceError. */
  async call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    input: MessageInitShape<I>,
  ): Promise<MessageShape<O>> {
    return await new Promise((resolve, reject) => {
      const done = (error: ServiceError | null, answer?: MessageShape<O>): void => {
        if (error !== null) reject(error);
        else resolve(answer as MessageShape<O>);
      };
      const [path, write, read] = ends(method);
      this.#client.makeUnaryRequest(
        path,
        write,
        read,
        create(method.input, input),
        { deadline: Date.now() + deadlineMs },
        done,
      );
    });
  }

  async stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    input: MessageInitShape<I>,
  ): Promise<MessageShape<O>[]> {
    const [path, write, read] = ends(method);
    const request = create(method.input, input);
    const call = this.#client.makeServerStreamRequest(path, write, read, request, {
      deadline: Date.now() + deadlineMs,
    });
    return (await call.toArray()) as MessageShape<O>[];
  }

  close(): void {
    this.#client.close();
  }
}

function ends<I extends DescMessage, O extends DescMessage>(
  method: DescMethodUnary<I, O> | DescMethodServerStreaming<I, O>,
) {
  return [
    `/${method.parent.typeName}/${method.name}`,
    (message: MessageShape<I>) => Buffer.from(toBinary(method.input, message)),
    (bytes: Buffer) => fromBinary(method.output, bytes),
  ] as const;
}
