// docker-credential-NAME programs: one verb as argument, JSON or a plain server name on standard input.
import { runProgram } from '../../util/run-program.ts';
import type { ProgramResult } from '../../util/run-program.ts';
import { RegistryError } from '../errors.ts';
import type { CallOptions } from '../interface.ts';
import type { Credentials } from './credentials.ts';

export interface CredentialHelperOptions {
  /** What follows `docker-credential-`. */
  readonly name: string;
  /** A helper that asks for a password on a terminal nobody sees would otherwise hang a mount for ever. */
  readonly timeoutMs: number;
}

const notFound = 'credentials not found in native keychain';

/** Undefined when the helper knows no credentials for `server`, `'missing'` when there is no such helper. Errors: CREDENTIALS_INVALID. */
export async function helperGet(
  server: string,
  options: CredentialHelperOptions & CallOptions,
): Promise<Credentials | undefined | 'missing'> {
  const result = await runHelper('get', server, options);
  if (result === 'missing') return 'missing';
  if (result.exitCode !== 0) {
    if (`${result.stdout}${result.stderr}`.includes(notFound)) return undefined;
    // Its output may hold a secret, so only the status is told.
    throw fail(options, `ended with status ${result.exitCode}`);
  }
  return parseHelperAnswer(result.stdout, options);
}

/** Errors: CREDENTIALS_INVALID. */
export async function helperStore(
  server: string,
  username: string,
  secret: string,
  options: CredentialHelperOptions & CallOptions,
): Promise<void> {
  const input = JSON.stringify({ ServerURL: server, Username: username, Secret: secret });
  const result = await runHelper('store', input, options);
  if (result === 'missing') throw fail(options, 'is not installed');
  if (result.exitCode !== 0) throw fail(options, `could not store the credentials (status ${result.exitCode})`);
}

/** Erasing what is not there is no error. Errors: CREDENTIALS_INVALID. */
export async function helperErase(server: string, options: CredentialHelperOptions & CallOptions): Promise<void> {
  const result = await runHelper('erase', server, options);
  if (result === 'missing') throw fail(options, 'is not installed');
  if (result.exitCode !== 0 && !`${result.stdout}${result.stderr}`.includes(notFound)) {
    throw fail(options, `could not erase the credentials (status ${result.exitCode})`);
  }
}

function runHelper(
  verb: string,
  input: string,
  options: CredentialHelperOptions & CallOptions,
): Promise<ProgramResult | 'missing'> {
  const { name, timeoutMs, signal } = options;
  if (!/^[A-Za-z0-9_.-]{1,100}$/.test(name)) {
    return Promise.reject(
      new RegistryError('CREDENTIALS_INVALID', `not a credential helper: ${JSON.stringify(name.slice(0, 100))}`),
    );
  }
  return runProgram({
    command: `docker-credential-${name}`,
    args: [verb],
    input,
    timeoutMs,
    signal,
    fail: (what, cause) => fail(options, what, cause),
  });
}

function parseHelperAnswer(text: string, options: CredentialHelperOptions): Credentials | undefined {
  let answer: unknown;
  try {
    answer = JSON.parse(text);
  } catch {
    // Without a cause: the parser's message quotes the text, and the text may be a secret.
    throw fail(options, 'answered with something that is not json');
  }
  const { Username: username, Secret: secret } = (answer ?? {}) as { Username?: unknown; Secret?: unknown };
  if (typeof username !== 'string' || typeof secret !== 'string')
    throw fail(options, 'answered without username and secret');
  if (username === '' && secret === '') return undefined;
  return username === '<token>'
    ? { kind: 'refresh-token', token: secret }
    : { kind: 'password', username, password: secret };
}

function fail(options: CredentialHelperOptions, what: string, cause?: unknown): RegistryError {
  return new RegistryError('CREDENTIALS_INVALID', `credential helper docker-credential-${options.name} ${what}`, {
    cause,
  });
}
