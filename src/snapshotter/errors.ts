export type SnapshotErrorCode =
  /** A snapshot of that name exists; for a layer: it can be had, and needs no unpacking. */
  | 'ERR_SNAPSHOT_EXISTS'
  | 'ERR_SNAPSHOT_UNKNOWN'
  /** Not possible with the snapshot as it is: it has children, is not active, has too many layers. */
  | 'ERR_SNAPSHOT_STATE'
  /** A layer below is not mounted, or not what it should be: a container would lack its files, or see wrong ones. */
  | 'ERR_SNAPSHOT_LAYER'
  /** The request is malformed or beyond a limit. */
  | 'ERR_SNAPSHOT_ARGUMENT'
  /** The caller went away. */
  | 'ERR_SNAPSHOT_CANCELLED';

export class SnapshotError extends Error {
  override readonly name = 'SnapshotError';
  readonly code: SnapshotErrorCode;

  constructor(code: SnapshotErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
