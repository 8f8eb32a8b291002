export type ImageErrorCode =
  | 'ERR_IMAGE_REFERENCE'
  | 'ERR_IMAGE_UNKNOWN'
  | 'ERR_IMAGE_DENIED'
  | 'ERR_IMAGE_NOT_LOCAL'
  | 'ERR_IMAGE_UNREACHABLE'
  | 'ERR_IMAGE_CONTENT'
  | 'ERR_IMAGE_PLATFORM'
  | 'ERR_IMAGE_UNSUPPORTED'
  | 'ERR_IMAGE_INDEX'
  | 'ERR_IMAGE_PROFILE'
  | 'ERR_IMAGE_LAYER'
  | 'ERR_IMAGE_LAYER_TREE'
  | 'ERR_IMAGE_LAYER_MOUNT'
  | 'ERR_IMAGE_TREE'
  | 'ERR_IMAGE_READ'
  | 'ERR_IMAGE_NOT_FILE'
  | 'ERR_IMAGE_CLOSED'
  | 'ERR_MOUNT_TARGET'
  | 'ERR_MOUNT_TRANSPORT'
  | 'ERR_MOUNT_PERMISSION'
  | 'ERR_MOUNT_UPPER'
  | 'ERR_MOUNT_UNKNOWN'
  | 'ERR_MOUNT_BUSY'
  | 'ERR_MOUNT_PROCESS'
  | 'ERR_CACHE_BUSY'
  | 'ERR_CACHE_UNKNOWN';

export class ImageError extends Error {
  override readonly name = 'ImageError';
  readonly code: ImageErrorCode;

  constructor(code: ImageErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
