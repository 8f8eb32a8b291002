import { RegistryError } from '../errors.ts';

export type TomlTable = Readonly<Record<string, unknown>>;

/** The keys of one table of a file. What has another type than expected is CONFIG_INVALID naming file, key and what was expected. */
export class TomlFields {
  readonly #table: TomlTable;
  readonly #file: string;
  /** The table's own name, for messages: `host."https://mirror".`, or nothing. */
  readonly #prefix: string;

  constructor(table: TomlTable, file: string, prefix = '') {
    this.#table = table;
    this.#file = file;
    this.#prefix = prefix;
  }

  keys(): string[] {
    return Object.keys(this.#table);
  }

  nameOf(key: string): string {
    return `${this.#file}: ${this.#prefix}${key}`;
  }

  fail(key: string, expected: string): RegistryError {
    return new RegistryError('CONFIG_INVALID', `${this.nameOf(key)}: expected ${expected}`);
  }

  value(key: string): unknown {
    return Object.hasOwn(this.#table, key) ? this.#table[key] : undefined;
  }

  string(key: string): string | undefined {
    const value = this.value(key);
    if (value === undefined || (typeof value === 'string' && value !== '')) return value;
    throw this.fail(key, 'a text that is not empty');
  }

  boolean(key: string): boolean | undefined {
    const value = this.value(key);
    if (value === undefined || typeof value === 'boolean') return value;
    throw this.fail(key, 'true or false');
  }

  /** A text or a list of them; none when the key is missing. */
  strings(key: string): string[] {
    const value = this.value(key) ?? [];
    const list: unknown[] = Array.isArray(value) ? value : [value];
    if (list.every((item) => typeof item === 'string' && item !== '')) return list as string[];
    throw this.fail(key, 'a text or a list of texts');
  }

  table(key: string): TomlTable {
    const value = this.value(key) ?? {};
    if (isTable(value)) return value;
    throw this.fail(key, 'a table');
  }
}

export function isTable(value: unknown): value is TomlTable {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date);
}
