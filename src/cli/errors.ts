import { ConfigError } from '../config/errors.ts';

/** The command line itself was wrong: exit code 2. */
export class UsageError extends Error {
  readonly code = 'ERR_USAGE';
  override readonly name = 'UsageError';
}

/** The command ran and failed for a reason of its own, e.g. a path that the image does not have: exit code 1. */
export class CommandError extends Error {
  override readonly name = 'CommandError';
  readonly code: string;

  constructor(message: string, options: { code?: string; cause?: unknown } = {}) {
    super(message, { cause: options.cause });
    this.code = options.code ?? 'ERR_COMMAND';
  }
}

/** The reader of stdout went away (`peel cat … | head`): nothing is wrong, and nothing more is worth doing. */
export class OutputClosedError extends Error {
  override readonly name = 'OutputClosedError';
}

/** Another program ran for this command, and its exit code is the answer. */
export class ProgramExit extends Error {
  override readonly name = 'ProgramExit';
  readonly code = 'ERR_PROGRAM_EXIT';
  readonly exitCode: number;

  constructor(exitCode: number) {
    super(`exit code ${exitCode}`);
    this.exitCode = exitCode;
  }
}

export const exitCodes = { ok: 0, failed: 1, usage: 2, interrupted: 130 } as const;

export interface Failure {
  readonly exitCode: number;
  /** Undefined when there is nothing to say. */
  readonly message: string | undefined;
  readonly code: string;
}

/** What an error means for the person at the shell. `interrupted`: SIGINT or SIGTERM came before the error did. */
export function failureOf(error: unknown, interrupted: boolean): Failure {
  if (error instanceof OutputClosedError) return { exitCode: exitCodes.ok, message: undefined, code: 'EPIPE' };
  if (error instanceof ProgramExit) return { exitCode: error.exitCode, message: undefined, code: error.code };
  if (interrupted) return { exitCode: exitCodes.interrupted, message: 'interrupted', code: 'ERR_INTERRUPTED' };
  const code = codeOf(error);
  if (isWrongInput(error)) return { exitCode: exitCodes.usage, message: error.message, code };
  return { exitCode: exitCodes.failed, message: messageOf(error), code };
}

function isWrongInput(error: unknown): error is Error {
  if (error instanceof ConfigError) return error.code !== 'ERR_CONFIG_ROOT';
  return error instanceof UsageError;
}

function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (codeOf(error) === 'SQLITE_FULL')
    return 'no space left for the database in the state directory: free some (peel cache prune), or choose another with --root';
  if (error.message !== '') return error.message;
  return error instanceof AggregateError ? error.errors.map(messageOf).join('; ') : codeOf(error);
}

function codeOf(error: unknown): string {
  if (error instanceof Error && 'code' in error && typeof error.code === 'string') return error.code;
  return 'ERR_UNEXPECTED';
}
