// docker-credential-NAME programs: one verb as argument, JSON or a plain server name on standard input.
import { spawn } from 'node:child_process';
import { RegistryError } from '../errors.ts';
import type { CallOptions } from '../interface.ts';
import type { Credentials } from './credentials.ts';

export interface CredentialHelperOptions {
  /** What follows `docker-credential-`. */
  readonly name: string;
  /** A helper that asks for a password on a terminal nobody sees would otherwise hang a mount for ever. */
  readonly timeoutMs: number;
}

const maxOutputBytes = 1024 * 1024;
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

interface HelperResult {
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function runHelper(
  verb: string,
  input: string,
  options: CredentialHelperOptions & CallOptions,
): Promise<HelperResult | 'missing'> {
  if (!/^[A-Za-z0-9_.-]{1,100}$/.test(options.name)) {
    return Promise.reject(
      new RegistryError(
        'CREDENTIALS_INVALID',
        `not a credential helper: ${JSON.stringify(options.name.slice(0, 100))}`,
      ),
    );
  }
  options.signal?.throwIfAborted();
  return new Promise((resolve, reject) => {
    const child = spawn(`docker-credential-${options.name}`, [verb], { stdio: 'pipe', detached: true });
    const output = { stdout: '', stderr: '' };
    let settled = false;
    const settle = (finish: () => void) => {
      if (settled) return;
      settled = true;
      clearTimeout(timer);
      options.signal?.removeEventListener('abort', onAbort);
      finish();
    };
    const giveUp = (error: Error) =>
      settle(() => {
        killGroup(child.pid);
        child.stdout.destroy();
        child.stderr.destroy();
        reject(error);
      });
    const onAbort = () => giveUp(options.signal?.reason as Error);
    const timer = setTimeout(
      () => giveUp(fail(options, `did not answer within ${options.timeoutMs} ms`)),
      options.timeoutMs,
    );
    options.signal?.addEventListener('abort', onAbort, { once: true });
    for (const name of ['stdout', 'stderr'] as const) {
      child[name].setEncoding('utf8').on('data', (text: string) => {
        output[name] += text;
        if (output[name].length > maxOutputBytes) giveUp(fail(options, 'answered with too much'));
      });
    }
    child.once('error', (error: NodeJS.ErrnoException) =>
      settle(() =>
        error.code === 'ENOENT' ? resolve('missing') : reject(fail(options, 'could not be started', error)),
      ),
    );
    child.once('close', (exitCode) => settle(() => resolve({ exitCode, ...output })));
    // A helper that exits without reading its input is judged by its status, not by EPIPE.
    child.stdin.on('error', () => {});
    child.stdin.end(input);
  });
}

/** The helper leads a process group of its own, so that what it started ends with it. */
function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // It ended by itself.
  }
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
