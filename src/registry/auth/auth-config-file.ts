import { constants } from 'node:fs';
import type { BigIntStats } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import { RegistryError } from '../errors.ts';
import { parseAuthConfig } from './auth-config.ts';
import type { AuthConfig } from './auth-config.ts';

const maxBytes = 1024 * 1024;

/** A credentials file that other programs rewrite while we run; a missing or empty one holds nothing. */
export class AuthConfigFile {
  readonly path: string;
  #kept: { readonly version: string; readonly config: AuthConfig } | undefined;

  constructor(path: string) {
    this.path = path;
  }

  /**
   * What the file says now: it is read again when it changed. `fresh` does not rely on its time and size, which a change within one
   * tick of the file system's clock leaves alone. Errors: CREDENTIALS_INVALID.
   */
  async read(options: { readonly fresh?: boolean | undefined } = {}): Promise<AuthConfig> {
    try {
      const version = versionOf(await stat(this.path, { bigint: true }));
      if (options.fresh !== true && this.#kept?.version === version) return this.#kept.config;
      // The version is that of before reading: a change in between shows the next time.
      const config = parseAuthConfig(await readText(this.path), this.#name);
      this.#kept = { version, config };
      return config;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      this.#kept = undefined;
      if (code === 'ENOENT' || code === 'ENOTDIR') return parseAuthConfig('', this.#name);
      if (error instanceof RegistryError) throw error;
      throw new RegistryError('CREDENTIALS_INVALID', `${this.#name}: cannot be read`, { cause: error });
    }
  }

  get #name(): string {
    return `credentials file ${this.path}`;
  }
}

function versionOf({ ino, size, mtimeNs, ctimeNs }: BigIntStats): string {
  return [ino, size, mtimeNs, ctimeNs].join(' ');
}

/** Without waiting for the writer of a pipe, which may never come. */
async function readText(path: string): Promise<string> {
  await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const buffer = Buffer.alloc(Math.min(maxBytes, (await file.stat()).size) + 1);
  const chunks: Buffer[] = [];
  for (let total = 0; ; ) {
    const { bytesRead } = await file.read(buffer, 0, buffer.length);
    if (bytesRead === 0) return Buffer.concat(chunks).toString('utf8');
    chunks.push(Buffer.from(buffer.subarray(0, bytesRead)));
    total += bytesRead;
    if (total > maxBytes)
      throw new RegistryError('CREDENTIALS_INVALID', `credentials file ${path}: more than ${maxBytes} bytes`);
  }
}
