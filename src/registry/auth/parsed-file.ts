import { constants } from 'node:fs';
import type { BigIntStats } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import { RegistryError } from '../errors.ts';

export interface ParsedFileOptions<T> {
  readonly path: string;
  /** For messages: `credentials file /root/.docker/config.json`. */
  readonly name: string;
  /** Errors: RegistryError, passed on. */
  readonly parse: (text: string) => T;
  /** Whether a missing file counts as an empty one. */
  readonly optional: boolean;
}

const maxBytes = 1024 * 1024;

/** A file that other programs rewrite while we run. */
export class ParsedFile<T> {
  readonly path: string;
  readonly #options: ParsedFileOptions<T>;
  #kept: { readonly version: string; readonly value: T } | undefined;

  constructor(options: ParsedFileOptions<T>) {
    this.path = options.path;
    this.#options = options;
  }

  /**
   * What the file says now: it is read again when it changed. `fresh` does not rely on its time and size, which a change within one
   * tick of the file system's clock leaves alone. Errors: CREDENTIALS_INVALID.
   */
  async read({ fresh = false }: { readonly fresh?: boolean | undefined } = {}): Promise<T> {
    const { path, name, parse, optional } = this.#options;
    try {
      const version = versionOf(await stat(path, { bigint: true }));
      if (!fresh && this.#kept?.version === version) return this.#kept.value;
      // The version is that of before reading: a change in between shows the next time.
      const value = parse(await readText(path, name));
      this.#kept = { version, value };
      return value;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      this.#kept = undefined;
      if (error instanceof RegistryError) throw error;
      const missing = code === 'ENOENT' || code === 'ENOTDIR';
      if (missing && optional) return parse('');
      const why = missing ? 'does not exist' : 'cannot be read';
      throw new RegistryError('CREDENTIALS_INVALID', `${name}: ${why}`, { cause: error });
    }
  }
}

function versionOf({ ino, size, mtimeNs, ctimeNs }: BigIntStats): string {
  return [ino, size, mtimeNs, ctimeNs].join(' ');
}

/** Without waiting for the writer of a pipe, which may never come. Errors: CREDENTIALS_INVALID above 1 MiB, errno codes. */
export async function readText(path: string, name: string): Promise<string> {
  await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const buffer = Buffer.alloc(Math.min(maxBytes, (await file.stat()).size) + 1);
  const chunks: Buffer[] = [];
  for (let total = 0; ; ) {
    const { bytesRead } = await file.read(buffer, 0, buffer.length);
    if (bytesRead === 0) return Buffer.concat(chunks).toString('utf8');
    chunks.push(Buffer.from(buffer.subarray(0, bytesRead)));
    total += bytesRead;
    if (total > maxBytes) throw new RegistryError('CREDENTIALS_INVALID', `${name}: more than ${maxBytes} bytes`);
  }
}
