// Command lines of the built `peel`, and calls of its node, that share a process: for tests of what they say, not of how their process lives.
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { type RunOptions, type RunResult, stop } from './run.ts';

type Answer = Pick<RunResult, 'code' | 'stdout' | 'stderr'>;
interface Asked {
  readonly args?: readonly string[];
  readonly node?: NodeScript;
}

/** The body of a function that has an open `node` and gives what it has to say to `say`. */
export interface NodeScript {
  readonly root: string;
  readonly body: string;
}

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
    return await this.#queue({ args }, options);
  }

  /** The same. An error is told on stderr, with its code in front. */
  async onNode(node: NodeScript, options: LineOptions = {}): Promise<RunResult> {
    return await this.#queue({ node }, options);
  }

  async close(): Promise<void> {
    await stop(this.#child);
  }

  async #queue(asked: Asked, options: LineOptions): Promise<RunResult> {
    this.#waiting += 1;
    const result = this.#last.then(() => this.#ask(asked, options)).finally(() => (this.#waiting -= 1));
    this.#last = result.catch(() => undefined);
    return await result;
  }

  async #ask(asked: Asked, { env, timeout = 60_000 }: LineOptions): Promise<RunResult> {
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
        const what = asked.node?.body ?? `peel ${asked.args?.join(' ')}`;
        throw new Error(`${what}: the process ended (${by ?? code})`);
      });
      ended.catch(() => undefined);
      const answered = once(this.#child, 'message', { signal }) as Promise<[Answer]>;
      answered.catch(() => undefined);
      this.#child.send({ ...asked, env: { ...process.env, ...env } });
      const [{ code, stdout, stderr }] = await Promise.race([answered, ended]);
      const by = isLate ? 'SIGKILL' : null;
      return { code, signal: by, stdout, stderr, out: stdout.toString(), err: stderr.toString() };
    } finally {
      clearTimeout(timer);
      waiting.abort();
    }
  }
}
