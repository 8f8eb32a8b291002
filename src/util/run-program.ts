// One run of a program that is asked something: input, output and time are bounded, no shell, and what it started ends with it.
import { spawn } from 'node:child_process';
import { killGroup } from './kill-group.ts';

export interface ProgramOptions {
  /** A path, or a name that is looked up in PATH. */
  readonly command: string;
  readonly args: readonly string[];
  /** Default: that of this process. */
  readonly env?: Readonly<Record<string, string>> | undefined;
  readonly input: string;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
  /** Makes the error for what went wrong: `did not answer within 10 ms`. */
  readonly fail: (what: string, cause?: unknown) => Error;
}

export interface ProgramResult {
  /** Null when a signal ended it. */
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

const maxOutputBytes = 1024 * 1024;

/** `'missing'` when there is no such program. Errors: what `fail` makes, the signal's reason. */
export function runProgram(options: ProgramOptions): Promise<ProgramResult | 'missing'> {
  const { command, args, env, input, timeoutMs, signal, fail } = options;
  if (signal?.aborted === true) return Promise.reject(signal.reason as Error);
  return new Promise((resolve, reject) => {
    // It leads a process group of its own, so that what it started can be ended with it.
    const child = spawn(command, args, { stdio: 'pipe', detached: true, ...(env === undefined ? {} : { env }) });
    const output = { stdout: '', stderr: '' };
    let settled = false;
    const settle = (finish: () => void) => {
      if (settled) return;
      settled = true;
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      finish();
    };
    const giveUp = (error: Error) =>
      settle(() => {
        killGroup(child.pid);
        child.stdout.destroy();
        child.stderr.destroy();
        reject(error);
      });
    const onAbort = () => giveUp(signal?.reason as Error);
    const timer = setTimeout(() => giveUp(fail(`did not answer within ${timeoutMs} ms`)), timeoutMs);
    signal?.addEventListener('abort', onAbort, { once: true });
    for (const name of ['stdout', 'stderr'] as const) {
      child[name].setEncoding('utf8').on('data', (text: string) => {
        output[name] += text;
        if (output[name].length > maxOutputBytes) giveUp(fail('answered with too much'));
      });
    }
    child.once('error', (error: NodeJS.ErrnoException) =>
      settle(() => (error.code === 'ENOENT' ? resolve('missing') : reject(fail('could not be started', error)))),
    );
    child.once('close', (exitCode) => settle(() => resolve({ exitCode, ...output })));
    // A program that exits without reading its input is judged by its status, not by EPIPE.
    child.stdin.on('error', () => {});
    child.stdin.end(input);
  });
}
