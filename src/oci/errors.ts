export type OciErrorCode = 'ERR_OCI_REFERENCE' | 'ERR_OCI_MANIFEST' | 'ERR_OCI_PLATFORM';

/** Something from outside that is not what the OCI image spec says it should be. */
export class OciError extends Error {
  override readonly name = 'OciError';
  readonly code: OciErrorCode;

  constructor(code: OciErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
