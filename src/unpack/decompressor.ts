// A program of the administrator's choice that decodes layers: the blob on its stdin, the stream on its stdout.
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { access, constants, stat } from 'node:fs/promises';
import { isAbsolute } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { byteStringFrom, displayBytes } from '../util/byte-string.ts';
import { killGroup } from '../util/kill-group.ts';
import { untilAborted } from '../util/until-aborted.ts';
import { UnpackError } from './errors.ts';

type Program = ChildProcessByStdio<Writable, Readable, Readable>;

/** What the administrator's shell has set for gzip and its like must not change what a layer is. */
const environment = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' };
const keptStderr = 4096;
const shownStderr = 300;

export interface DecompressorOptions {
  readonly signal: AbortSignal;
}

export class Decompressor {
  readonly #path: string;
  readonly #args: readonly string[];
  readonly #signal: AbortSignal;
  #program: Program | undefined;
  #stderr = Buffer.alloc(0);
  #blobFailure: { readonly error: unknown } | undefined;

  /** `command`: an absolute path and arguments; no shell sees them. */
  constructor(command: readonly string[], options: DecompressorOptions) {
    [this.#path = '', ...this.#args] = command;
    this.#signal = options.signal;
  }

  /**
   * The stream of `blob`. Once; close() in any case.
   * Errors: ERR_UNPACK_DECOMPRESSOR when it cannot be started, fails, or does not read the whole blob; what `blob` throws; the signal's reason.
   */
  async *run(blob: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    const program = await this.#start();
    const onAbort = () => killGroup(program.pid);
    this.#signal.addEventListener('abort', onAbort, { once: true });
    try {
      this.#signal.throwIfAborted();
      const exit = untilAborted(once(program, 'exit') as Promise<[number | null, NodeJS.Signals | null]>, this.#signal);
      exit.catch(() => {});
      const fed = this.#feed(program, blob);
      yield* this.#stdout(program);
      const [code, killedBy] = await exit;
      this.#throwBlobFailure();
      if (code !== 0) throw this.#failed(killedBy === null ? `ended with status ${code}` : `was ended by ${killedBy}`);
      const taken = await untilAborted(fed, this.#signal);
      this.#throwBlobFailure();
      if (!taken) throw this.#failed('ended before it had read the whole layer');
    } finally {
      this.#signal.removeEventListener('abort', onAbort);
      killGroup(program.pid);
    }
  }

  /** Ends the program; it is gone when this resolves. Idempotent. */
  async close(): Promise<void> {
    const program = this.#program;
    if (program === undefined) return;
    const gone = program.exitCode === null && program.signalCode === null ? once(program, 'exit') : undefined;
    killGroup(program.pid);
    program.stdin.destroy();
    program.stdout.destroy();
    program.stderr.destroy();
    await gone;
  }

  async #start(): Promise<Program> {
    await this.#check();
    this.#signal.throwIfAborted();
    try {
      // It leads a process group of its own, so that what it started can be ended with it.
      const program = spawn(this.#path, this.#args, {
        stdio: ['pipe', 'pipe', 'pipe'],
        detached: true,
        env: environment,
        cwd: '/',
      });
      // A program that ends without reading its input is judged by its status, not by EPIPE.
      program.stdin.on('error', () => {});
      program.stderr.on('data', (text: Buffer) => {
        this.#stderr = Buffer.concat([this.#stderr, text]).subarray(-keptStderr);
      });
      await once(program, 'spawn');
      this.#program = program;
      return program;
    } catch (error) {
      throw this.#failed('cannot be started', error);
    }
  }

  async #check(): Promise<void> {
    if (!isAbsolute(this.#path)) throw this.#failed('is not an absolute path');
    try {
      if (!(await stat(this.#path)).isFile()) throw new Error('it is not a regular file');
      await access(this.#path, constants.X_OK);
    } catch (error) {
      throw this.#failed('cannot be started', error);
    }
  }

  /** False when the program did not want all of it. Never rejects. */
  async #feed({ stdin, pid }: Program, blob: AsyncIterable<Uint8Array>): Promise<boolean> {
    try {
      for await (const piece of blob) {
        // The memory is written from until then, and the next piece may come in the same.
        const written = await new Promise<boolean>((resolve) => stdin.write(piece, (error) => resolve(!error)));
        if (!written) return false;
      }
      stdin.end();
      return true;
    } catch (error) {
      this.#blobFailure = { error };
      killGroup(pid);
      return false;
    }
  }

  async *#stdout(program: Program): AsyncGenerator<Uint8Array> {
    try {
      yield* program.stdout as AsyncIterable<Uint8Array>;
    } catch (error) {
      this.#signal.throwIfAborted();
      throw this.#failed('cannot be read from', error);
    }
  }

  #throwBlobFailure(): void {
    this.#signal.throwIfAborted();
    if (this.#blobFailure !== undefined) throw this.#blobFailure.error;
  }

  #failed(what: string, cause?: unknown): UnpackError {
    const said = displayBytes(byteStringFrom(this.#stderr))
      .split('\\x0a')
      .filter((line) => line.trim() !== '')
      .at(-1);
    const why = cause instanceof Error ? cause.message : said?.slice(0, shownStderr);
    const message = `decompressor ${this.#path} ${what}${why === undefined ? '' : `: ${why}`}`;
    return new UnpackError('ERR_UNPACK_DECOMPRESSOR', message, cause === undefined ? {} : { cause });
  }
}
