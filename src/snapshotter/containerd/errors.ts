import { status } from '@grpc/grpc-js';

export type ContainerdErrorCode =
  /** Nobody answers at the address. */
  | 'ERR_CONTAINERD_UNREACHABLE'
  /** The socket may not be used. */
  | 'ERR_CONTAINERD_PERMISSION'
  /** No answer in time. */
  | 'ERR_CONTAINERD_TIMEOUT'
  | 'ERR_CONTAINERD_NOT_FOUND'
  | 'ERR_CONTAINERD_EXISTS'
  | 'ERR_CONTAINERD_ARGUMENT'
  /** Content that is not what was announced, or a snapshot that is still used. */
  | 'ERR_CONTAINERD_PRECONDITION'
  /** Somebody else is at it, or a plugin of containerd does not answer. */
  | 'ERR_CONTAINERD_UNAVAILABLE'
  /** No containerd, or one without this service. */
  | 'ERR_CONTAINERD_UNIMPLEMENTED'
  | 'ERR_CONTAINERD_FAILED';

export class ContainerdError extends Error {
  override readonly name = 'ContainerdError';
  readonly code: ContainerdErrorCode;

  constructor(code: ContainerdErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** With no codes: any of them. */
export function isContainerdError(error: unknown, ...wanted: readonly ContainerdErrorCode[]): error is ContainerdError {
  return error instanceof ContainerdError && (wanted.length === 0 || wanted.includes(error.code));
}

const codes: ReadonlyMap<number, ContainerdErrorCode> = new Map([
  [status.DEADLINE_EXCEEDED, 'ERR_CONTAINERD_TIMEOUT'],
  [status.NOT_FOUND, 'ERR_CONTAINERD_NOT_FOUND'],
  [status.ALREADY_EXISTS, 'ERR_CONTAINERD_EXISTS'],
  [status.INVALID_ARGUMENT, 'ERR_CONTAINERD_ARGUMENT'],
  [status.FAILED_PRECONDITION, 'ERR_CONTAINERD_PRECONDITION'],
  [status.UNAVAILABLE, 'ERR_CONTAINERD_UNAVAILABLE'],
  [status.UNIMPLEMENTED, 'ERR_CONTAINERD_UNIMPLEMENTED'],
  [status.PERMISSION_DENIED, 'ERR_CONTAINERD_PERMISSION'],
]);

const longestDetails = 1000;

/** What went wrong with a call; `what` names the call and its object, `address` the socket. */
export function containerdErrorFrom(cause: unknown, what: string, address: string): ContainerdError {
  if (cause instanceof ContainerdError) return cause;
  const { code, details } = cause as { readonly code?: unknown; readonly details?: unknown };
  const found = typeof code === 'number' ? codes.get(code) : undefined;
  const text = typeof details === 'string' ? details : cause instanceof Error ? cause.message : String(cause);
  const hint = found === 'ERR_CONTAINERD_UNIMPLEMENTED' ? ' (is it a containerd that listens there?)' : '';
  return new ContainerdError(
    found ?? 'ERR_CONTAINERD_FAILED',
    `containerd at ${address} could not ${what}: ${text.slice(0, longestDetails)}${hint}`,
    { cause },
  );
}

export function timeoutError(what: string, address: string): ContainerdError {
  return new ContainerdError('ERR_CONTAINERD_TIMEOUT', `containerd at ${address} did not ${what} in time`);
}

/** Why no connection was to be had. */
export function connectError(cause: unknown, address: string): ContainerdError {
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : String(cause);
  if (code === 'EACCES' || code === 'EPERM') {
    const message = `the socket ${address} of containerd may not be used (${code}): this needs root`;
    return new ContainerdError('ERR_CONTAINERD_PERMISSION', message, { cause });
  }
  return new ContainerdError(
    'ERR_CONTAINERD_UNREACHABLE',
    `no containerd answers at ${address} (${code}): is it running, and is that its address (--address or CONTAINERD_ADDRESS)?`,
    { cause },
  );
}
