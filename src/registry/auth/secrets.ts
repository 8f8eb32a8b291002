import { basicAuthorization } from './credentials.ts';
import type { Credentials } from './credentials.ts';

/** Shorter ones are no secret, and are found in any sentence. */
const shortest = 4;

export function secretsOf(credentials: Credentials | undefined): string[] {
  if (credentials === undefined) return [];
  if (credentials.kind !== 'password') return [credentials.token];
  const { username, password } = credentials;
  return [password, basicAuthorization(username, password).slice('Basic '.length)];
}

/** Whether a server says back what it was told in confidence, in any of the forms it was told in. Such words belong in no message. */
export function quotesSecret(said: Uint8Array, secrets: readonly string[]): boolean {
  const text = Buffer.from(said.buffer, said.byteOffset, said.byteLength).toString('utf8');
  return secrets.some((secret) => {
    const forms = [secret, JSON.stringify(secret).slice(1, -1), new URLSearchParams({ s: secret }).toString().slice(2)];
    return secret.length >= shortest && forms.some((form) => text.includes(form));
  });
}
