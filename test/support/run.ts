// Child processes for tests: whatever touches a mount, a worker or the built command line runs outside the test's process.
import { type ChildProcess, spawn } from 'node:child_process';
import { onTestFinished } from 'vitest';

export interface RunOptions {
  readonly cwd?: string | undefined;
  /** Added to the environment of the test. */
  readonly env?: Readonly<Record<string, string>> | undefined;
  readonly input?: string | Uint8Array | undefined;
  /** Milliseconds until SIGKILL; default 60 000. */
  readonly timeout?: number | undefined;
  /** The process, for a test that signals it while it runs. */
  readonly onStart?: ((child: ChildProcess) => void) | undefined;
}

export interface RunResult {
  /** Exit code; -1 when a signal ended it. */
  readonly code: number;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: Buffer;
  readonly stderr: Buffer;
  /** stdout as UTF-8 text. */
  readonly out: string;
  /** stderr as UTF-8 text. */
  readonly err: string;
}

export const peelMain = new URL('../../dist/cli/main.js', import.meta.url).pathname;

/** Runs to the end and collects the output; never rejects for an exit code. Rejects when the program cannot be started. */
export async function run(command: string, args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const child = spawn(command, args, {
    cwd: options.cwd,
    env: { ...process.env, ...options.env },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  options.onStart?.(child);
  const timer = setTimeout(() => child.kill('SIGKILL'), options.timeout ?? 60_000);
  const stdout = collect(child.stdout);
  const stderr = collect(child.stderr);
  child.stdin.on('error', () => {});
  child.stdin.end(options.input);
  try {
    const [code, signal] = await ended(child);
    const [outBytes, errBytes] = [await stdout, await stderr];
    return {
      code: code ?? -1,
      signal,
      stdout: outBytes,
      stderr: errBytes,
      out: outBytes.toString(),
      err: errBytes.toString(),
    };
  } finally {
    clearTimeout(timer);
  }
}

/** Like `run`, but an exit code other than 0 is an error that carries the program's stderr. Returns stdout as text. */
export async function runOk(command: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
  const result = await run(command, args, options);
  if (result.code !== 0) {
    throw new Error(
      `${command} ${args.join(' ')}: ${result.signal ?? `exit ${result.code}`}\n${result.err}${result.out}`,
    );
  }
  return result.out;
}

/** The built `peel`. */
export function peel(args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  return run(process.execPath, [peelMain, ...args], options);
}

/** A long-running child that is killed when the test ends; resolves at the first line on stdout that `ready` matches. */
export async function start(
  command: string,
  args: readonly string[],
  ready: RegExp,
  options: RunOptions = {},
): Promise<{ child: ChildProcess; line: string }> {
  const child = spawn(command, args, {
    cwd: options.cwd,
    env: { ...process.env, ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  onTestFinished(() => stop(child));
  let text = '';
  const line = await new Promise<string>((resolve, reject) => {
    const look = (chunk: Buffer): void => {
      text += chunk.toString();
      const found = text.split('\n').find((candidate) => ready.test(candidate));
      if (found !== undefined) resolve(found);
    };
    child.stdout.on('data', look);
    child.stderr.on('data', look);
    child.on('error', reject);
    child.on('exit', (code, signal) => reject(new Error(`${command} ended early (${signal ?? code}):\n${text}`)));
  });
  return { child, line };
}

/** SIGTERM, then SIGKILL after five seconds; resolves when the process is gone. */
export async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = ended(child);
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), 5000);
  await gone;
  clearTimeout(timer);
}

function ended(child: ChildProcess): Promise<[number | null, NodeJS.Signals | null]> {
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve([code, signal]));
  });
}

async function collect(stream: NodeJS.ReadableStream): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks);
}
