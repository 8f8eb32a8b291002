/** The last lines that were logged, for people who ask the running process. */
export class LogRing {
  readonly #maxLines: number;
  readonly #maxBytes: number;
  readonly #lines: string[] = [];
  readonly #listeners = new Set<(line: string) => void>();
  #bytes = 0;

  constructor({ maxLines = 2_000, maxBytes = 8 << 20 }: { maxLines?: number; maxBytes?: number } = {}) {
    this.#maxLines = maxLines;
    this.#maxBytes = maxBytes;
  }

  /** A line without its newline. */
  push(line: string): void {
    this.#lines.push(line);
    this.#bytes += line.length;
    while (this.#lines.length > this.#maxLines || (this.#bytes > this.#maxBytes && this.#lines.length > 1))
      this.#bytes -= this.#lines.shift()?.length ?? 0;
    for (const listener of this.#listeners) listener(line);
  }

  /** The last `count` lines, oldest first. */
  tail(count: number): string[] {
    return count === 0 ? [] : this.#lines.slice(-count);
  }

  /** Calls for every line from now on, until the function that it returns is called. */
  follow(listener: (line: string) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }
}
