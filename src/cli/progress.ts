// Progress of long work, on stderr, only on a terminal, and only once the work has taken a second.
import type { WriteStream } from 'node:tty';
import { humanBytes, humanDuration, percent } from './human.ts';

export interface ProgressUpdate {
  readonly what: string;
  /** Bytes. */
  readonly done: number;
  readonly total: number | undefined;
}

const showAfterMs = 1000;
const redrawMs = 100;
const shownLines = 6;

interface Task {
  update: ProgressUpdate;
  readonly startedAt: number;
}

export class ProgressWriter {
  readonly #stream: WriteStream;
  readonly #enabled: boolean;
  readonly #now: () => number;
  readonly #tasks = new Map<string, Task>();
  #firstAt: number | undefined;
  #timer: NodeJS.Timeout | undefined;
  #drawn = 0;

  constructor(stream: WriteStream, options: { quiet?: boolean; now?: () => number } = {}) {
    this.#stream = stream;
    this.#enabled = stream.isTTY && options.quiet !== true;
    this.#now = options.now ?? Date.now;
  }

  /** To be handed on as an `onProgress` callback. A task that reaches its total leaves the screen. */
  readonly report = (update: ProgressUpdate): void => {
    if (!this.#enabled) return;
    const task = this.#tasks.get(update.what);
    if (update.total !== undefined && update.done >= update.total) this.#tasks.delete(update.what);
    else if (task) task.update = update;
    else this.#tasks.set(update.what, { update, startedAt: this.#now() });
    this.#firstAt ??= this.#now();
    this.#timer ??= setInterval(() => this.#draw(), redrawMs).unref();
  };

  /** Removes what was drawn, so that a line can be written; drawing goes on with the next tick. */
  clear(): void {
    if (this.#drawn === 0) return;
    this.#stream.write(`\u001b[${this.#drawn}A\r\u001b[J`);
    this.#drawn = 0;
  }

  /** Ends the drawing; idempotent. */
  close(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.clear();
    this.#tasks.clear();
    this.#firstAt = undefined;
  }

  #draw(): void {
    if (this.#firstAt === undefined || this.#now() - this.#firstAt < showAfterMs) return;
    const tasks = [...this.#tasks.values()];
    const width = Math.max(20, (this.#stream.columns || 80) - 1);
    const lines = tasks.slice(0, shownLines).map((task) => this.#line(task, width));
    if (tasks.length > shownLines) lines.push(`  and ${tasks.length - shownLines} more`);
    this.clear();
    if (lines.length === 0) return;
    this.#stream.write(`${lines.join('\n')}\n`);
    this.#drawn = lines.length;
  }

  #line({ update, startedAt }: Task, width: number): string {
    const seconds = (this.#now() - startedAt) / 1000;
    const rate = seconds > 0 ? update.done / seconds : 0;
    const parts = [humanBytes(update.done)];
    if (update.total !== undefined) {
      parts[0] = `${percent(update.done, update.total)} of ${humanBytes(update.total)}`;
      if (rate > 0) parts.push(`${humanDuration(((update.total - update.done) / rate) * 1000)} left`);
    }
    if (rate > 0) parts.push(`${humanBytes(rate)}/s`);
    const tail = `  ${parts.join('  ')}`;
    const head = update.what.replace(/\p{Cc}/gu, '?').slice(0, Math.max(0, width - tail.length));
    return (head + tail).slice(0, width);
  }
}
