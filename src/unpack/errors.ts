export type UnpackErrorCode =
  /** Unpacking is switched off by the mode. */
  | 'ERR_UNPACK_DISABLED'
  /** The image has no layers to unpack. */
  | 'ERR_UNPACK_NO_LAYERS'
  /** No job has this number, or it is gone. */
  | 'ERR_UNPACK_JOB_UNKNOWN'
  /** The job is in no state for what is asked of it: removing one that runs, for example. */
  | 'ERR_UNPACK_JOB_STATE'
  /** The job's tree was taken by somebody else, or is not there yet. */
  | 'ERR_UNPACK_NOT_CLAIMABLE'
  /** The job's folder cannot be made, because something else is at its place. */
  | 'ERR_UNPACK_FOLDER'
  /** The job took, or waited, longer than `unpack.expiry`. */
  | 'ERR_UNPACK_EXPIRED'
  /** Nobody wants the layer any more. */
  | 'ERR_UNPACK_CANCELLED'
  /** The compressed layer that a job had kept is gone. */
  | 'ERR_UNPACK_BLOB_MISSING'
  /** The place for the tree is not an empty directory. */
  | 'ERR_UNPACK_DESTINATION'
  /** The compressed layer does not have the digest or size that its image says. */
  | 'ERR_UNPACK_DIGEST'
  /** The layer unpacks to something other than its diffID. */
  | 'ERR_UNPACK_DIFF_ID'
  /** The blob or its tar is damaged, or goes on after its end. */
  | 'ERR_UNPACK_LAYER'
  /** An entry that no directory can hold, or that would leave it. */
  | 'ERR_UNPACK_ENTRY'
  /** What the layer looks like depends on layers below that are not known: a hard link into one, for example. */
  | 'ERR_UNPACK_BELOW'
  /** The layer unpacks to more than the limits allow. */
  | 'ERR_UNPACK_LIMIT'
  /** Too little space for the job. */
  | 'ERR_UNPACK_SPACE'
  /** The disk refuses: full, failing or read-only. */
  | 'ERR_UNPACK_DISK'
  /** The layer cannot be downloaded. */
  | 'ERR_UNPACK_FETCH'
  /** The external decompressor cannot be started, or fails. */
  | 'ERR_UNPACK_DECOMPRESSOR'
  /** A media type that is no layer, or a digest that is not sha256. */
  | 'ERR_UNPACK_UNSUPPORTED';

export class UnpackError extends Error {
  readonly code: UnpackErrorCode;

  constructor(code: UnpackErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'UnpackError';
    this.code = code;
  }
}
