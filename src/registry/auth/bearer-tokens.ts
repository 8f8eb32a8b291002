// Bearer tokens: distribution's token authentication (GET) and OAuth2 (POST with a refresh token).
import { OnceMap } from '../../util/once-map.ts';
import { collect, exchange, urlForPeople } from '../client/http.ts';
import type { HttpConnections, HttpRequest } from '../client/http.ts';
import { answerError } from '../client/answer-error.ts';
import { RegistryError } from '../errors.ts';
import type { CallOptions } from '../interface.ts';
import { basicAuthorization } from './credentials.ts';
import type { Credentials } from './credentials.ts';
import { Scope } from './scope.ts';

export interface TokenRealm {
  readonly url: URL;
  readonly service: string | undefined;
}

interface Token {
  readonly value: string;
  readonly scope: Scope;
  readonly expiresAt: number;
}

const maxAnswerBytes = 1024 * 1024;
const defaultLifetimeMs = 60_000;
const maxTokens = 256;
const clientId = 'peel';

/** The tokens of one registry, kept until shortly before they expire. */
export class BearerTokens {
  readonly #connections: HttpConnections;
  readonly #now: () => number;
  readonly #flights = new OnceMap<string, string>();
  #tokens: Token[] = [];
  /** Token servers may replace the refresh token they were given. */
  #refreshToken: string | undefined;

  constructor(options: { readonly connections: HttpConnections; readonly now?: (() => number) | undefined }) {
    this.#connections = options.connections;
    this.#now = options.now ?? Date.now;
  }

  /** A token that is enough for `scope` and still good. */
  cached(scope: Scope): string | undefined {
    const now = this.#now();
    this.#tokens = this.#tokens.filter((token) => token.expiresAt > now);
    return this.#tokens.find((token) => token.scope.contains(scope))?.value;
  }

  /** The registry did not take this token any more. */
  forget(value: string): void {
    this.#tokens = this.#tokens.filter((token) => token.value !== value);
  }

  /** Callers that want the same scope at the same time share one request. Errors: UNAUTHORIZED, DENIED, RESPONSE_INVALID, those of the transfer. */
  acquire(
    realm: TokenRealm,
    scope: Scope,
    credentials: Credentials | undefined,
    options: CallOptions = {},
  ): Promise<string> {
    return this.#flights.run(
      `${realm.url.href} ${realm.service ?? ''} ${scope.toString()}`,
      async (signal) => {
        const answer = await this.#ask(realm, scope, credentials, signal);
        const lifetime = answer.lifetimeMs;
        const token = { value: answer.token, scope, expiresAt: this.#now() + lifetime - Math.min(5_000, lifetime / 4) };
        this.#tokens = [token, ...this.#tokens].slice(0, maxTokens);
        return token.value;
      },
      options,
    );
  }

  async #ask(
    realm: TokenRealm,
    scope: Scope,
    credentials: Credentials | undefined,
    signal: AbortSignal,
  ): Promise<TokenAnswer> {
    if (credentials?.kind === 'refresh-token') {
      const message = refreshRequest(realm, scope, this.#refreshToken ?? credentials.token, signal);
      const answer = await this.#send(message, { acceptNotFound: true });
      if (answer !== undefined) {
        this.#refreshToken = answer.refreshToken ?? this.#refreshToken;
        return answer;
      }
    }
    const answer = await this.#send(getRequest(realm, scope, credentials, signal), { acceptNotFound: false });
    if (answer === undefined)
      throw new RegistryError('RESPONSE_INVALID', `token server ${urlForPeople(realm.url)} does not answer`);
    return answer;
  }

  /** Undefined for 404 and 405 to a POST: the server speaks only the older form. */
  async #send(message: HttpRequest, options: { readonly acceptNotFound: boolean }): Promise<TokenAnswer | undefined> {
    const response = await exchange(this.#connections, message);
    const bytes = await collect(response, message.method, { limit: maxAnswerBytes, signal: message.signal });
    if (options.acceptNotFound && (response.status === 404 || response.status === 405)) return undefined;
    const server = `token server ${urlForPeople(message.url)}`;
    // A redirect could carry the password elsewhere, so it is not followed.
    if (response.status !== 200) throw answerError(response, bytes, server);
    return parseTokenAnswer(bytes, server);
  }
}

interface TokenAnswer {
  readonly token: string;
  readonly lifetimeMs: number;
  readonly refreshToken: string | undefined;
}

function refreshRequest(realm: TokenRealm, scope: Scope, refreshToken: string, signal: AbortSignal): HttpRequest {
  const form = new URLSearchParams({
    grant_type: 'refresh_token',
    client_id: clientId,
    refresh_token: refreshToken,
    scope: scope.toString(),
  });
  if (realm.service !== undefined) form.set('service', realm.service);
  const bytes = Buffer.from(form.toString());
  const headers = { accept: 'application/json', 'content-type': 'application/x-www-form-urlencoded' };
  return { method: 'POST', url: realm.url, headers, body: { size: bytes.byteLength, open: () => bytes }, signal };
}

function getRequest(
  realm: TokenRealm,
  scope: Scope,
  credentials: Credentials | undefined,
  signal: AbortSignal,
): HttpRequest {
  const url = new URL(realm.url);
  if (realm.service !== undefined) url.searchParams.set('service', realm.service);
  for (const text of scope.toStrings()) url.searchParams.append('scope', text);
  const headers: Record<string, string> = { accept: 'application/json' };
  if (credentials?.kind === 'password') {
    headers['authorization'] = basicAuthorization(credentials.username, credentials.password);
    url.searchParams.set('account', credentials.username);
  }
  url.searchParams.set('client_id', clientId);
  return { method: 'GET', url, headers, signal };
}

function parseTokenAnswer(bytes: Buffer, server: string): TokenAnswer {
  let json: Readonly<Record<string, unknown>>;
  try {
    json = JSON.parse(bytes.toString('utf8')) as typeof json;
  } catch {
    // Without a cause: the parser's message quotes the text, and the text may hold a token.
    throw new RegistryError('RESPONSE_INVALID', `${server} answered with something that is not json`);
  }
  const { token, access_token: accessToken, expires_in: expiresIn, refresh_token: refreshToken } = json ?? {};
  const value = typeof token === 'string' && token !== '' ? token : accessToken;
  // What a header cannot carry would fail later with the token in the message.
  if (typeof value !== 'string' || !/^[\x21-\x7e]+$/.test(value))
    throw new RegistryError('RESPONSE_INVALID', `${server} answered without a token`);
  const lifetimeMs = typeof expiresIn === 'number' && expiresIn > 0 ? expiresIn * 1000 : defaultLifetimeMs;
  return {
    token: value,
    lifetimeMs,
    refreshToken: typeof refreshToken === 'string' && refreshToken !== '' ? refreshToken : undefined,
  };
}
