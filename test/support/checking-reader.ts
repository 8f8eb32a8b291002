import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Interface } from 'node:readline';
import { onTestFinished } from 'vitest';

export interface ReaderCounts {
  readonly reads: number;
  readonly wrong: number;
  readonly failed: number;
  readonly longestMs: number;
  readonly error: string | null;
}

/** A process that reads a file at random places, past the page cache, and compares. Killed when the test ends. */
export class CheckingReader {
  readonly #child: ChildProcess;
  readonly #lines: Interface;

  private constructor(child: ChildProcess) {
    this.#child = child;
    if (child.stdout === null) throw new Error('no stdout');
    this.#lines = createInterface(child.stdout);
  }

  static start(file: string, rightFile: string, seed: number): CheckingReader {
    const program = new URL('checking-reader.py', import.meta.url).pathname;
    const child = spawn('python3', [program, file, rightFile, String(seed)], { stdio: ['pipe', 'pipe', 'inherit'] });
    onTestFinished(() => void child.kill('SIGKILL'));
    return new CheckingReader(child);
  }

  /** Since the last time it was asked. */
  async counts(): Promise<ReaderCounts> {
    const line = once(this.#lines, 'line');
    this.#child.stdin?.write('\n');
    return JSON.parse(String((await line)[0])) as ReaderCounts;
  }

  /** The last counts; it ends. */
  async end(): Promise<ReaderCounts> {
    const line = once(this.#lines, 'line');
    this.#child.stdin?.end();
    return JSON.parse(String((await line)[0])) as ReaderCounts;
  }
}
