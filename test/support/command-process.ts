// Command lines of the built `peel` that share a process: for tests of what commands say, not of how their process lives.
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { type RunOptions, type RunResult, stop } from './run.ts';

type Answer = Pick<RunResult, 'code' | 'stdout' | 'stderr'>;
type LineOptions = Pick<RunOptions, 'env' | 'timeout'>;

export class CommandProcess {
  readonly #child: ChildProcess;
  #waiting = 0;
  #last: Promise<unknown> = Promise.resolve();

  /** Ends with the test's process at the latest. */
  constructor() {
    const program = new URL('command-process.mjs', import.meta.url);
    this.#child = fork(program, { execArgv: [], serialization: 'advanced' });
    this.#child.unref();
    this.#child.channel?.unref();
  }

  /** Whether a command line would have to wait for another one. */
  get isBusy(): boolean {
    return this.#waiting > 0;
  }

  get hasEnded(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null || !this.#child.connected;
  }

  /** After those before it have ended. Like `run`: what takes too long is killed, and the process with it. Rejects when the process ends by itself. */
  async peel(args: readonly string[], options: LineOptions = {}): Promise<RunResult> {
    this.#waiting += 1;
    const result = this.#last.then(() => this.#ask(args, options)).finally(() => (this.#waiting -= 1));
    this.#last = result.catch(() => undefined);
    return await result;
  }

  async close(): Promise<void> {
    await stop(this.#child);
  }

  async #ask(args: readonly string[], { env, timeout = 60_000 }: LineOptions): Promise<RunResult> {
    const waiting = new AbortController();
    const { signal } = waiting;
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      this.#child.kill('SIGKILL');
    }, timeout);
    try {
      const ended = once(this.#child, 'exit', { signal }).then(([code, by]): [Answer] => {
        if (isLate) return [{ code: -1, stdout: Buffer.alloc(0), stderr: Buffer.alloc(0) }];
        throw new Error(`peel ${args.join(' ')}: the process ended (${by ?? code})`);
      });
      ended.catch(() => undefined);
      const answered = once(this.#child, 'message', { signal }) as Promise<[Answer]>;
      answered.catch(() => undefined);
      this.#child.send({ args, env: { ...process.env, ...env } });
      const [{ code, stdout, stderr }] = await Promise.race([answered, ended]);
      const by = isLate ? 'SIGKILL' : null;
      return { code, signal: by, stdout, stderr, out: stdout.toString(), err: stderr.toString() };
    } finally {
      clearTimeout(timer);
      waiting.abort();
    }
  }
}
