import type { ConfigProblem } from './problem.ts';

export type ConfigErrorCode =
  | 'ERR_CONFIG_ROOT' // the state directory cannot be used
  | 'ERR_CONFIG_KEY' // the key for secrets cannot be used
  | 'ERR_CONFIG_FILE' // the configuration cannot be read or is wrong
  | 'ERR_CONFIG_FORMATS'; // serving is on and every index format is off

export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  readonly code: ConfigErrorCode;
  /** Of a configuration: all that is wrong with it, one line of the message each. */
  readonly problems: readonly ConfigProblem[];

  constructor(
    code: ConfigErrorCode,
    message: string,
    options: ErrorOptions & { readonly problems?: readonly ConfigProblem[] } = {},
  ) {
    super(message, options);
    this.code = code;
    this.problems = options.problems ?? [];
  }
}
