// containerd's filter language, as text: `name==a,labels."x.y"~=/^v[0-9]+$/`.
import { SnapshotError } from './errors.ts';

export type FilterOperator = 'present' | '==' | '!=' | '~=';

/** One condition of a filter, which is met when all of its are. */
export interface FilterTerm {
  /** `labels.a.b` is `['labels', 'a', 'b']`. */
  readonly field: readonly string[];
  readonly operator: FilterOperator;
  /** Empty for `present`. */
  readonly value: string;
}

const maxBytes = 32 << 10;
const maxTerms = 32;

const operators: readonly string[] = ['==', '!=', '~='];

/** Errors: ERR_SNAPSHOT_ARGUMENT with the place of the mistake. */
export function parseFilter(text: string): FilterTerm[] {
  if (Buffer.byteLength(text) > maxBytes) {
    throw new SnapshotError('ERR_SNAPSHOT_ARGUMENT', `a filter of more than ${maxBytes} bytes`);
  }
  const reader = new FilterReader(text);
  if (text === '') return [];
  const terms = [readTerm(reader)];
  while (!reader.atEnd) {
    reader.expect(/,/y, 'a comma or the end');
    terms.push(readTerm(reader));
    if (terms.length > maxTerms) throw reader.error(`no more than ${maxTerms} conditions`);
  }
  return terms;
}

function readTerm(reader: FilterReader): FilterTerm {
  const field = [readField(reader)];
  while (reader.take(/\./y) !== undefined) field.push(readField(reader));
  if (reader.atEnd || reader.sees(/,/y)) return { field, operator: 'present', value: '' };
  const operator = reader.expect(/[=!~]+/y, 'an operator');
  if (!operators.includes(operator)) throw reader.error(`one of the operators ${operators.join(' ')}`);
  const value =
    readQuoted(reader, operator === '~=' ? /["/|]/y : /"/y) ?? reader.expect(/[^\s,"/|][^\s,]*/y, 'a value or quotes');
  return { field, operator: operator as FilterOperator, value };
}

function readField(reader: FilterReader): string {
  return readQuoted(reader, /"/y) ?? reader.expect(/[\w-]+/y, 'a field or quotes');
}

/** Regular expressions may also stand between slashes or bars. */
function readQuoted(reader: FilterReader, quotes: RegExp): string | undefined {
  const quote = reader.take(quotes);
  if (quote === undefined) return undefined;
  const pieces: Buffer[] = [];
  const plain = quote === '"' ? /[^"\\\n]+/y : quote === '/' ? /[^/\\\n]+/y : /[^|\\\n]+/y;
  while (reader.takeExactly(quote) === undefined) {
    const text = reader.takeRaw(plain);
    pieces.push(text === undefined ? readEscape(reader, quote) : Buffer.from(text));
  }
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(Buffer.concat(pieces));
  } catch {
    throw reader.error('quoted text in UTF-8');
  }
}

const simpleEscapes: Readonly<Record<string, number>> = {
  a: 7,
  b: 8,
  t: 9,
  n: 10,
  v: 11,
  f: 12,
  r: 13,
  '\\': 92,
};

/** Go's: `\n`, `\x41`, `\101` are bytes, `\u00e9` and `\U0001f600` characters. */
function readEscape(reader: FilterReader, quote: string): Buffer {
  reader.expectRaw(/\\/y, `the closing ${quote}`);
  if (reader.takeExactly(quote) !== undefined) return Buffer.from(quote);
  const simple = reader.takeRaw(/[abtnvfr\\]/y);
  if (simple !== undefined) return Buffer.of(simpleEscapes[simple] ?? 0);
  const octal = reader.takeRaw(/[0-3][0-7]{2}/y);
  if (octal !== undefined) return Buffer.of(Number.parseInt(octal, 8));
  const hex = reader.expectRaw(/x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}/y, 'an escape sequence of Go');
  const code = Number.parseInt(hex.slice(1), 16);
  if (hex.startsWith('x')) return Buffer.of(code);
  if (code > 0x10_ffff || (code >= 0xd800 && code < 0xe000)) throw reader.error('a character of Unicode');
  return Buffer.from(String.fromCodePoint(code));
}

/** Takes what sticky patterns match, one after the other. */
class FilterReader {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  /** Nothing but white space is left. */
  get atEnd(): boolean {
    this.#skipSpace();
    return this.#at === this.#text.length;
  }

  sees(pattern: RegExp): boolean {
    const at = this.#at;
    const seen = this.take(pattern) !== undefined;
    this.#at = at;
    return seen;
  }

  take(pattern: RegExp): string | undefined {
    this.#skipSpace();
    return this.takeRaw(pattern);
  }

  takeRaw(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0];
    if (found !== undefined) this.#at += found.length;
    return found;
  }

  takeExactly(text: string): string | undefined {
    if (!this.#text.startsWith(text, this.#at)) return undefined;
    this.#at += text.length;
    return text;
  }

  expect(pattern: RegExp, what: string): string {
    this.#skipSpace();
    return this.expectRaw(pattern, what);
  }

  expectRaw(pattern: RegExp, what: string): string {
    const found = this.takeRaw(pattern);
    if (found === undefined) throw this.error(what);
    return found;
  }

  error(expected: string): SnapshotError {
    const before = JSON.stringify(this.#text.slice(Math.max(0, this.#at - 60), this.#at));
    return new SnapshotError('ERR_SNAPSHOT_ARGUMENT', `filter: expected ${expected} after ${before}`);
  }

  #skipSpace(): void {
    this.takeRaw(/\s+/y);
  }
}
