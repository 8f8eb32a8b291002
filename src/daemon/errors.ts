export type DaemonErrorCode =
  /** Another daemon has the run directory or the state directory. */
  | 'ERR_DAEMON_RUNNING'
  /** A directory of the configuration cannot be used, an address not be listened on, or the keeper does not answer. */
  | 'ERR_DAEMON_START'
  /** A request that the control API does not understand. */
  | 'ERR_DAEMON_REQUEST'
  /** The daemon cannot do this, because it serves the mount that would have to answer. */
  | 'ERR_DAEMON_NESTED'
  /** To whoever asks, names of files, hosts or users mean something else than to the daemon. */
  | 'ERR_DAEMON_ELSEWHERE'
  /** This daemon has no such part. */
  | 'ERR_DAEMON_UNSUPPORTED'
  /** The daemon is about to end. */
  | 'ERR_DAEMON_STOPPING'
  /** The daemon went away, or said something that is no answer. */
  | 'ERR_DAEMON_ANSWER'
  /** The keeper of file descriptors refused a request; the message has its reason. */
  | 'ERR_KEEPER_REFUSED'
  /** The keeper went away, or said something that is no answer. */
  | 'ERR_KEEPER_ANSWER';

export class DaemonError extends Error {
  override readonly name = 'DaemonError';
  readonly code: DaemonErrorCode;
  /** What the process that it is about wrote last, by line. */
  readonly log: readonly string[];

  constructor(code: DaemonErrorCode, message: string, options: ErrorOptions & { log?: readonly string[] } = {}) {
    super(message, options);
    this.code = code;
    this.log = options.log ?? [];
  }
}
