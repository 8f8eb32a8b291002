import { status } from '@grpc/grpc-js';
import { errorCode, errorMessage } from '../layer/errors.ts';

export interface GrpcStatus {
  readonly code: status;
  readonly details: string;
}

/** The one map from our codes to those of gRPC, which containerd takes for its own errors. */
const codes: ReadonlyMap<string | undefined, status> = new Map(
  Object.entries({
    ERR_SNAPSHOT_EXISTS: status.ALREADY_EXISTS,
    ERR_SNAPSHOT_UNKNOWN: status.NOT_FOUND,
    ERR_SNAPSHOT_STATE: status.FAILED_PRECONDITION,
    ERR_SNAPSHOT_LAYER: status.UNAVAILABLE,
    ERR_SNAPSHOT_ARGUMENT: status.INVALID_ARGUMENT,
    ERR_SNAPSHOT_CANCELLED: status.CANCELLED,
    ENOSPC: status.RESOURCE_EXHAUSTED,
    EDQUOT: status.RESOURCE_EXHAUSTED,
    SQLITE_FULL: status.RESOURCE_EXHAUSTED,
  }),
);

/** Undefined when nobody foresaw the error: its message is for the log, not for the client. */
export function grpcStatus(error: unknown): GrpcStatus | undefined {
  const code = codes.get(errorCode(error));
  return code === undefined ? undefined : { code, details: errorMessage(error) };
}
