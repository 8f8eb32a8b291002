import { type ChildProcess, spawn } from 'node:child_process';
import { CommandError } from '../errors.ts';

export interface Finished {
  readonly stdout: string;
  /** Milliseconds from start to end. */
  readonly ms: number;
}

const main = new URL('../main.js', import.meta.url).pathname;

/** Runs a program to its end. Errors: CommandError with the end of its stderr when it fails; killed when `signal` aborts. */
export async function runChild(command: string, args: readonly string[], signal?: AbortSignal): Promise<Finished> {
  const started = performance.now();
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], ...(signal ? { signal } : {}) });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (stderr = (stderr + chunk.toString()).slice(-4000)));
  const outcome = await ended(child, command);
  if (outcome !== '0') throw new CommandError(`${command} ${args.join(' ')} failed (${outcome}):\n${stderr.trim()}`);
  return { stdout, ms: performance.now() - started };
}

/** Runs this `peel`. */
export function runPeel(args: readonly string[], signal?: AbortSignal): Promise<Finished> {
  return runChild(process.execPath, [main, ...args], signal);
}

/** Starts this `peel`, which goes on running. */
export function startPeel(args: readonly string[]): ChildProcess {
  return spawn(process.execPath, [main, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
}

/** Exit code or signal as text. Errors: CommandError when the program could not be started. */
export function ended(child: ChildProcess, command: string): Promise<string> {
  return new Promise((resolve, reject) => {
    child.on('error', (cause) => reject(new CommandError(`${command}: ${cause.message}`, { cause })));
    child.on('close', (code, signal) => resolve(String(code ?? signal)));
  });
}
