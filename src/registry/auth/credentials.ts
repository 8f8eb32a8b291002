import type { CallOptions } from '../interface.ts';

/** What a person is known by at a registry. Never logged, never part of a message. */
export type Credentials =
  | { readonly kind: 'password'; readonly username: string; readonly password: string }
  /** An OAuth2 refresh token, docker's `identitytoken`. */
  | { readonly kind: 'refresh-token'; readonly token: string }
  /** A bearer token used as it is, docker's `registrytoken`. */
  | { readonly kind: 'access-token'; readonly token: string };

export interface CredentialSource {
  /** Undefined means anonymous. `host` is that of a reference: `docker.io`, `localhost:5000`. Errors: CREDENTIALS_INVALID. */
  lookup(host: string, options?: CallOptions): Promise<Credentials | undefined>;
}

export const anonymous: CredentialSource = { lookup: () => Promise.resolve(undefined) };

export function basicAuthorization(username: string, password: string): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
}
