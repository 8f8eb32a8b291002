export type TarErrorCode =
  /** A header block is damaged: checksum, number field or sequence of blocks. */
  | 'ERR_TAR_HEADER'
  /** A PAX record is malformed or its value cannot be used. */
  | 'ERR_TAR_PAX'
  /** A sparse map is malformed, or does not fit the file or its data. */
  | 'ERR_TAR_SPARSE'
  /** A member of a type that no file system tree can hold (multi-volume and vendor types). */
  | 'ERR_TAR_TYPE'
  /** The archive asks for more than the reader's limits allow. */
  | 'ERR_TAR_LIMIT'
  /** The stream ends inside a header or inside a member's data. */
  | 'ERR_TAR_TRUNCATED';

/** The archive cannot be read. The message names the member and the stream offset of its header. */
export class TarError extends Error {
  readonly code: TarErrorCode;
  /** Stream offset in bytes of the header block concerned. */
  readonly offset: number;

  constructor(code: TarErrorCode, offset: number, message: string, options?: ErrorOptions) {
    super(`${message} (at byte ${offset} of the tar stream)`, options);
    this.name = 'TarError';
    this.code = code;
    this.offset = offset;
  }
}
