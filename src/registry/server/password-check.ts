import { Worker } from 'node:worker_threads';
import { Deferred } from '../../util/deferred.ts';
import { RegistryError } from '../errors.ts';
import type { Comparison, ComparisonResult } from './password-thread.ts';

/** Comparisons that may wait; whoever comes then is told to come back. */
const maxWaiting = 50;

/** Compares passwords with bcrypt hashes in a thread of its own, which starts with the first one. */
export class PasswordCheck {
  readonly #waiting = new Map<number, Deferred<boolean>>();
  #thread: Worker | undefined;
  #lastId = 0;

  /** Errors: TOOMANYREQUESTS; UNKNOWN when the thread ends. */
  async compare(password: string, hash: string): Promise<boolean> {
    if (this.#waiting.size >= maxWaiting)
      throw new RegistryError('TOOMANYREQUESTS', 'too many passwords are being checked', { retryAfterMs: 2_000 });
    const comparison: Comparison = { id: (this.#lastId += 1), password, hash };
    const result = new Deferred<boolean>();
    this.#waiting.set(comparison.id, result);
    this.#thread ??= this.#start();
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread's port, not a window
    this.#thread.postMessage(comparison);
    return await result.promise;
  }

  async close(): Promise<void> {
    await this.#thread?.terminate();
  }

  #start(): Worker {
    const thread = new Worker(new URL('./password-thread.js', import.meta.url), { execArgv: [] });
    thread.unref();
    thread.on('message', ({ id, equal }: ComparisonResult) => {
      this.#waiting.get(id)?.resolve(equal);
      this.#waiting.delete(id);
    });
    let problem: unknown;
    thread.on('error', (error) => {
      problem = error;
    });
    thread.on('exit', () => {
      this.#thread = undefined;
      const error = new RegistryError('UNKNOWN', 'the thread that checks passwords ended', { cause: problem });
      for (const result of this.#waiting.values()) result.reject(error);
      this.#waiting.clear();
    });
    return thread;
  }
}
