import { parseAuthConfig } from './auth-config.ts';
import type { AuthConfig } from './auth-config.ts';
import { ParsedFile } from './parsed-file.ts';

/** A credentials file that other programs rewrite while we run; a missing or empty one holds nothing. */
export class AuthConfigFile extends ParsedFile<AuthConfig> {
  constructor(path: string) {
    const name = `credentials file ${path}`;
    super({ path, name, parse: (text) => parseAuthConfig(text, name), optional: true });
  }
}
