import { isDeepStrictEqual } from 'node:util';
import type { CallOptions } from '../interface.ts';

/** What a person is known by at a registry. Never logged, never part of a message. */
export type Credentials =
  | { readonly kind: 'password'; readonly username: string; readonly password: string }
  /** An OAuth2 refresh token, docker's `identitytoken`; some registries want it with the user name it was made for. */
  | { readonly kind: 'refresh-token'; readonly token: string; readonly username?: string | undefined }
  /** A bearer token used as it is, docker's `registrytoken`. */
  | { readonly kind: 'access-token'; readonly token: string };

export interface LookupOptions extends CallOptions {
  /** What is wanted of the registry: some sources know a person per repository or namespace. */
  readonly repository?: string | undefined;
  /** The registry refused what this source gave: nothing that is kept in memory will do. */
  readonly fresh?: boolean | undefined;
}

export interface CredentialSource {
  /** Undefined means anonymous. `host` is that of a reference: `docker.io`, `localhost:5000`. Errors: CREDENTIALS_INVALID. */
  lookup(host: string, options?: LookupOptions): Promise<Credentials | undefined>;
}

export const anonymous: CredentialSource = { lookup: () => Promise.resolve(undefined) };

/** What a person gave by hand, for `hosts` (as in a reference) and no others. */
export function staticCredentials(credentials: Credentials, hosts: Iterable<string>): CredentialSource {
  const known = new Set(hosts);
  return { lookup: async (host) => (known.has(host) ? credentials : undefined) };
}

/** The first source that knows the host decides. */
export function firstCredentials(sources: readonly CredentialSource[]): CredentialSource {
  return {
    lookup: async (host, options) => {
      for (const source of sources) {
        const found = await source.lookup(host, options);
        if (found !== undefined) return found;
      }
      return undefined;
    },
  };
}

export function sameCredentials(a: Credentials | undefined, b: Credentials | undefined): boolean {
  return isDeepStrictEqual(a, b);
}

export function basicAuthorization(username: string, password: string): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
}
