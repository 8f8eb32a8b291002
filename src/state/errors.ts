export type StateErrorCode = 'ERR_STATE_OPEN' | 'ERR_STATE_VERSION';

export class StateError extends Error {
  override readonly name = 'StateError';
  readonly code: StateErrorCode;

  constructor(code: StateErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
