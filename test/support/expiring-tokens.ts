// Puts a front that asks for tokens before a registry; they are given to anybody, and soon refused again.
import { randomUUID } from 'node:crypto';
import type { RegistryFront } from './registry-front.ts';

export interface ExpiringTokens {
  /** Whether the token server answers; else 503. */
  isUp: boolean;
  readonly given: () => number;
}

/** Each token is taken for `lifetimeMs`. Requests for anything else are left to rules that were added before. */
export function expiringTokens(front: RegistryFront, lifetimeMs: number): ExpiringTokens {
  const until = new Map<string, number>();
  const tokens = { isUp: true, given: () => until.size };
  front.interfere(
    ({ url }) => url?.startsWith('/token') === true,
    (_request, response) => {
      if (!tokens.isUp) return void response.writeHead(503).end();
      const token = randomUUID();
      until.set(token, performance.now() + lifetimeMs);
      response.writeHead(200, { 'content-type': 'application/json' });
      response.end(JSON.stringify({ token, expires_in: Math.ceil(lifetimeMs / 1000) }));
    },
  );
  const isGood = (authorization = ''): boolean => {
    return (until.get(authorization.replace('Bearer ', '')) ?? 0) > performance.now();
  };
  front.interfere(
    ({ url, headers }) => url?.startsWith('/v2/') === true && !isGood(headers.authorization),
    ({ url }, response) => {
      const name = /^\/v2\/(.+?)\/(?:blobs|manifests|referrers)\//.exec(url ?? '')?.[1] ?? '';
      const realm = `Bearer realm="http://${front.host}/token",service="test",scope="repository:${name}:pull"`;
      response.writeHead(401, { 'www-authenticate': realm }).end();
    },
  );
  return tokens;
}
