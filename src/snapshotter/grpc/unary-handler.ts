import type { DescMessage, DescMethodUnary, MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import { create } from '@bufbuild/protobuf';
import type { Metadata, ServerUnaryCall, handleUnaryCall } from '@grpc/grpc-js';
import type { GrpcStatus } from '../status.ts';

type Handler<I extends DescMessage, O extends DescMessage> = (
  request: MessageShape<I>,
  options: { readonly signal: AbortSignal; readonly metadata: Metadata },
) => Promise<MessageInitShape<O>> | MessageInitShape<O>;

/** A method of a service as grpc-js takes it. `fail` makes a status of whatever `handle` throws. */
export function unaryHandler<I extends DescMessage, O extends DescMessage>(
  method: DescMethodUnary<I, O>,
  handle: Handler<I, O>,
  fail: (error: unknown) => GrpcStatus,
): handleUnaryCall<MessageShape<I>, MessageShape<O>> {
  return (call, reply) => {
    const { request, metadata } = call;
    const work = async () => create(method.output, await handle(request, { signal: signalOf(call), metadata }));
    work().then(
      (response) => reply(null, response),
      (error: unknown) => reply(fail(error)),
    );
  };
}

/** Aborted when the client goes away or its deadline is over. */
export function signalOf(call: Pick<ServerUnaryCall<unknown, unknown>, 'cancelled' | 'once'>): AbortSignal {
  const controller = new AbortController();
  const abort = () => controller.abort(new DOMException('the caller went away', 'AbortError'));
  if (call.cancelled) abort();
  else call.once('cancelled', abort);
  return controller.signal;
}
