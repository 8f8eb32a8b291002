// What is asked of the keeper, peel's process that holds file descriptors: lines of KEY=VALUE, as systemd's own store has them
// (sd_notify(3)), and each answered by OK=1 or by ERROR=why.
import { existsSync } from 'node:fs';
import { errorMessage } from '../layer/errors.ts';
import { FdConnection } from '../native/fd-messages.ts';
import type { FdAnswer } from '../native/fd-messages.ts';
import { Semaphore } from '../util/semaphore.ts';
import { DaemonError } from './errors.ts';

export type KeeperLines = readonly (readonly [key: string, value: string])[];

export interface KeeperAnswer {
  /** Of the message that says how it went. */
  readonly lines: KeeperLines;
  /** Whoever asked owns their fds. */
  readonly fds: readonly SentFd[];
}

export interface SentFd {
  readonly name: string;
  readonly fd: number;
  /** The keeper drops it once it is of no use to anybody. */
  readonly dropWhenDead: boolean;
}

export interface AskOptions {
  /** Sent beside the request; stays the caller's. */
  readonly fd?: number | undefined;
  /** Default 10 000. */
  readonly timeoutMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

const usualTimeoutMs = 10_000;

export class KeeperConnection {
  readonly #socket: string;
  readonly #turn = new Semaphore(1);
  #connection: FdConnection | undefined;
  #isClosed = false;

  private constructor(socket: string, connection: FdConnection) {
    this.#socket = socket;
    this.#connection = connection;
  }

  /** Undefined where no keeper listens. Errors: errno codes of connect(2). */
  static open(socket: string): KeeperConnection | undefined {
    // Most machines have none, and the addon takes a while to load.
    if (!existsSync(socket)) return undefined;
    try {
      return new KeeperConnection(socket, FdConnection.open(socket));
    } catch (error) {
      if (['ENOENT', 'ECONNREFUSED'].includes(codeOf(error) ?? '')) return undefined;
      throw error;
    }
  }

  /**
   * A keeper that executed itself anew has closed its connections: then the request is made again, so it must do no harm twice.
   * Errors: ERR_KEEPER_REFUSED, ERR_KEEPER_ANSWER; the signal's reason.
   */
  async ask(request: KeeperLines, options: AskOptions = {}): Promise<KeeperAnswer> {
    const { signal } = options;
    return await this.#turn.run(async () => answerOf(await this.#exchange(textOf(request), options)), { signal });
  }

  /** Idempotent; a request that waits for its answer fails. */
  close(): void {
    this.#isClosed = true;
    this.#hangUp();
  }

  async #exchange(text: string, options: AskOptions): Promise<readonly FdAnswer[]> {
    for (let tries = 0; ; tries += 1) {
      try {
        if (this.#isClosed) throw new Error('the connection to it is closed');
        this.#connection ??= FdConnection.open(this.#socket);
        return await this.#connection.exchange(text, { ...options, timeoutMs: options.timeoutMs ?? usualTimeoutMs });
      } catch (cause) {
        this.#hangUp();
        options.signal?.throwIfAborted();
        const isGone = ['EPIPE', 'ECONNRESET', 'ENOTCONN'].includes(codeOf(cause) ?? '');
        if (isGone && tries === 0 && !this.#isClosed) continue;
        throw new DaemonError('ERR_KEEPER_ANSWER', `keeper on ${this.#socket}: ${errorMessage(cause)}`, { cause });
      }
    }
  }

  #hangUp(): void {
    this.#connection?.close();
    this.#connection = undefined;
  }
}

function textOf(request: KeeperLines): string {
  for (const [key, value] of request)
    if (/[\n\0]/.test(value)) throw new TypeError(`${key} of a request to the keeper has a line break in it`);
  return request.map(([key, value]) => `${key}=${value}`).join('\n');
}

function answerOf(answers: readonly FdAnswer[]): KeeperAnswer {
  const fds = answers.flatMap(({ text, fd }) => (fd === undefined ? [] : [sentFd(linesOf(text), fd)]));
  const lines = linesOf(answers.at(-1)?.text ?? '');
  const error = valueOf(lines, 'ERROR');
  if (error !== undefined)
    throw new DaemonError('ERR_KEEPER_REFUSED', `keeper: ${error}`, { log: valuesOf(lines, 'LOG') });
  if (valueOf(lines, 'OK') !== '1') throw new DaemonError('ERR_KEEPER_ANSWER', 'keeper: an answer that is none');
  return { lines, fds };
}

function sentFd(lines: KeeperLines, fd: number): SentFd {
  return { name: valueOf(lines, 'FDNAME') ?? '', fd, dropWhenDead: valueOf(lines, 'FDPOLL') !== '0' };
}

export function valuesOf(lines: KeeperLines, key: string): readonly string[] {
  return lines.flatMap(([name, value]) => (name === key ? [value] : []));
}

export function valueOf(lines: KeeperLines, key: string): string | undefined {
  return lines.find(([name]) => name === key)?.[1];
}

function linesOf(text: string): KeeperLines {
  return text.split('\n').map((line) => {
    const end = line.indexOf('=');
    return end === -1 ? [line, ''] : [line.slice(0, end), line.slice(end + 1)];
  });
}

function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error ? String(error.code) : undefined;
}
