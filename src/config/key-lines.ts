// On which line a key of a TOML file stands: the parser tells it only for text that is no TOML at all.
import type { KeyPath } from './key-path.ts';

/** Lines of the keys of a text that has been parsed without an error; of another one, anything. */
export class KeyLines {
  readonly #lines = new Map<string, number>();

  constructor(text: string) {
    new Scanner(text, (path, line) => this.#add(path, line)).scan();
  }

  /** From 1. What has no line of its own, as within an inline table or a list, has that of what it is in. */
  find(path: KeyPath): number | undefined {
    for (let length = path.length; length > 0; length--) {
      const line = this.#lines.get(JSON.stringify(path.slice(0, length)));
      if (line !== undefined) return line;
    }
    return undefined;
  }

  /** The first mention of a table counts. */
  #add(path: KeyPath, line: number): void {
    for (let length = 1; length <= path.length; length++) {
      const name = JSON.stringify(path.slice(0, length));
      if (!this.#lines.has(name)) this.#lines.set(name, line);
    }
  }
}

/** One part of a key: bare, or quoted either way. */
const keyPart = /[ \t]*(?:([A-Za-z0-9_-]+)|"((?:[^"\\\n]|\\.)*)"|'([^'\n]*)')[ \t]*/y;

class Scanner {
  readonly #text: string;
  readonly #found: (path: KeyPath, line: number) => void;
  #at = 0;
  #line = 1;
  #counted = 0;

  constructor(text: string, found: (path: KeyPath, line: number) => void) {
    this.#text = text;
    this.#found = found;
  }

  scan(): void {
    let table: KeyPath | undefined = [];
    while (this.#at < this.#text.length) {
      const start = this.#text[this.#at] ?? '';
      if (/\s/.test(start)) this.#at++;
      else if (start === '#') this.#skipLine();
      else if (start === '[') {
        this.#at += this.#text[this.#at + 1] === '[' ? 2 : 1;
        table = this.#key();
        this.#report(table);
        this.#skipLine();
      } else {
        const key = this.#key();
        this.#report(table && key && [...table, ...key]);
        this.#skipValue();
      }
    }
  }

  #report(path: KeyPath | undefined): void {
    if (path === undefined) return;
    for (; this.#counted < this.#at; this.#counted++) if (this.#text[this.#counted] === '\n') this.#line++;
    this.#found(path, this.#line);
  }

  /** Undefined for one that is written with escapes. */
  #key(): KeyPath | undefined {
    const path: string[] = [];
    let isPlain = true;
    do {
      keyPart.lastIndex = this.#at;
      const [all = '', bare, basic, literal] = keyPart.exec(this.#text) ?? [];
      this.#at += all.length;
      isPlain &&= all !== '' && basic?.includes('\\') !== true;
      path.push(bare ?? basic ?? literal ?? '');
    } while (this.#text[this.#at] === '.' && ++this.#at > 0);
    return isPlain ? path : undefined;
  }

  #skipLine(): void {
    const end = this.#text.indexOf('\n', this.#at);
    this.#at = end === -1 ? this.#text.length : end;
  }

  /** To the end of its line, or of the line where its last bracket is closed. */
  #skipValue(): void {
    for (let depth = 0; this.#at < this.#text.length; ) {
      const next = this.#text[this.#at] ?? '';
      if (next === '#') this.#skipLine();
      else if (next === '"' || next === "'") this.#skipText(next);
      else if (next === '\n' && depth <= 0) return;
      else {
        if (next === '[' || next === '{') depth++;
        if (next === ']' || next === '}') depth--;
        this.#at++;
      }
    }
  }

  #skipText(quote: string): void {
    const long = quote.repeat(3);
    const isLong = this.#text.startsWith(long, this.#at);
    const end = isLong ? long : quote;
    this.#at += end.length;
    while (this.#at < this.#text.length && !this.#text.startsWith(end, this.#at))
      this.#at += quote === '"' && this.#text[this.#at] === '\\' ? 2 : 1;
    this.#at += end.length;
    // Up to two quotes may stand before the closing ones.
    if (isLong) while (this.#text[this.#at] === quote) this.#at++;
  }
}
