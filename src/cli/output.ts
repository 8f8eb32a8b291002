// stdout. Bytes go out as they are, waiting while the reader is slow; a reader that went away ends the command quietly.
import type { Writable } from 'node:stream';
import { CommandError, OutputClosedError } from './errors.ts';
import { type Column, tableLines } from './table.ts';

const blockSize = 65_536;

export class Output {
  readonly #stream: Writable;
  #lines: string[] = [];
  #buffered = 0;

  constructor(stream: Writable) {
    this.#stream = stream;
    // Every write has its own callback; without a listener the same error would also end the process.
    stream.on('error', () => undefined);
  }

  /** One line of text, without its newline. Lines are gathered and written a block at a time. */
  async line(text: string): Promise<void> {
    this.#lines.push(text);
    this.#buffered += text.length + 1;
    if (this.#buffered >= blockSize) await this.flush();
  }

  async lines(texts: readonly string[]): Promise<void> {
    for (const text of texts) await this.line(text);
  }

  async table(columns: readonly Column[], rows: readonly (readonly string[])[]): Promise<void> {
    await this.lines(tableLines(columns, rows));
  }

  /** The answer of a command under `--json`: one document. */
  async value(value: unknown): Promise<void> {
    await this.line(JSON.stringify(value, undefined, 2));
  }

  /** Resolves when the bytes were handed to the kernel; then they may be reused. */
  async bytes(chunk: Uint8Array): Promise<void> {
    await this.flush();
    await this.#write(chunk);
  }

  async flush(): Promise<void> {
    if (this.#lines.length === 0) return;
    const text = `${this.#lines.join('\n')}\n`;
    this.#lines = [];
    this.#buffered = 0;
    await this.#write(text);
  }

  async #write(chunk: string | Uint8Array): Promise<void> {
    const cause = await new Promise<NodeJS.ErrnoException | null | undefined>((resolve) => {
      this.#stream.write(chunk, (error) => resolve(error));
    });
    if (!cause) return;
    if (cause.code === 'EPIPE' || cause.code === 'ERR_STREAM_DESTROYED') throw new OutputClosedError(cause.message);
    throw new CommandError(`cannot write to stdout: ${cause.message}`, { code: cause.code ?? 'EIO', cause });
  }
}
