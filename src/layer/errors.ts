export type LayerErrorCode =
  /** The blob's bytes do not hash to its digest, or the stream's not to the diffID. */
  | 'ERR_LAYER_DIGEST'
  /** The blob ends before a span that the index states. */
  | 'ERR_LAYER_SHORT'
  /** The index does not describe this layer, or cannot be read. */
  | 'ERR_LAYER_INDEX'
  /** A newer release wrote the layer's files. */
  | 'ERR_LAYER_VERSION'
  /** No decoder for this media type. */
  | 'ERR_LAYER_UNSUPPORTED'
  /** The registry could not deliver the bytes in time, or said that it never will. */
  | 'ERR_LAYER_FETCH'
  /** The disk under the state directory is full or failing. */
  | 'ERR_LAYER_DISK'
  /** The layer is used by a mount or another process. */
  | 'ERR_LAYER_BUSY'
  /** The layer was closed while somebody waited. */
  | 'ERR_LAYER_CLOSED';

export class LayerError extends Error {
  override readonly name = 'LayerError';
  readonly code: LayerErrorCode;

  constructor(code: LayerErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** The `code` of any error that has one (Node's, the addon's, ours). */
export function errorCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

export function errorMessage(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
