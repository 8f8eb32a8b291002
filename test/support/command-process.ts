// Command lines of the built `peel` that share a process: for tests of what commands say, not of how their process lives.
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { type RunResult, stop } from './run.ts';

type Answer = Pick<RunResult, 'code' | 'stdout' | 'stderr'>;

export class CommandProcess {
  readonly #child: ChildProcess;
  #last: Promise<unknown> = Promise.resolve();

  /** `env` is added to the environment of the test. */
  constructor(env: Readonly<Record<string, string>>) {
    const program = new URL('command-process.mjs', import.meta.url);
    this.#child = fork(program, { env: { ...process.env, ...env }, execArgv: [], serialization: 'advanced' });
  }

  /** After those before it have ended. Rejects when the process ends instead of answering. */
  async peel(args: readonly string[]): Promise<RunResult> {
    const result = this.#last.then(() => this.#ask(args));
    this.#last = result.catch(() => undefined);
    return await result;
  }

  async close(): Promise<void> {
    await stop(this.#child);
  }

  async #ask(args: readonly string[]): Promise<RunResult> {
    const waiting = new AbortController();
    const { signal } = waiting;
    try {
      const ended = once(this.#child, 'exit', { signal }).then(([code, by]) => {
        throw new Error(`peel ${args.join(' ')}: the process ended (${by ?? code})`);
      });
      ended.catch(() => undefined);
      const answered = once(this.#child, 'message', { signal }) as Promise<[Answer]>;
      this.#child.send(args);
      const [{ code, stdout, stderr }] = await Promise.race([answered, ended]);
      return { code, signal: null, stdout, stderr, out: stdout.toString(), err: stderr.toString() };
    } finally {
      waiting.abort();
    }
  }
}
