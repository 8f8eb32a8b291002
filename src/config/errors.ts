export type ConfigErrorCode = 'ERR_CONFIG_ROOT' | 'ERR_CONFIG_KEY';

export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  readonly code: ConfigErrorCode;

  constructor(code: ConfigErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
