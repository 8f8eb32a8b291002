// Asking a token server: distribution's token authentication (GET), and OAuth2 (POST) with a refresh token.
import { defaultBackoff, retry, systemTimer } from '../../util/backoff.ts';
import type { BackoffPolicy, BackoffTimer } from '../../util/backoff.ts';
import { Semaphore } from '../../util/semaphore.ts';
import { answerError } from '../client/answer-error.ts';
import { collect, exchange, urlForPeople } from '../client/http.ts';
import type { HttpConnections, HttpRequest } from '../client/http.ts';
import { RegistryError } from '../errors.ts';
import { basicAuthorization } from './credentials.ts';
import type { Credentials } from './credentials.ts';
import { quotesSecret, secretsOf } from './secrets.ts';
import { parseTokenAnswer } from './token-answer.ts';
import type { TokenAnswer } from './token-answer.ts';

export interface TokenRealm {
  readonly url: URL;
  readonly service: string | undefined;
}

export interface TokenServerOptions {
  readonly connections: HttpConnections;
  readonly backoff?: BackoffPolicy | undefined;
  readonly timer?: BackoffTimer | undefined;
}

export interface TokenQuestion {
  readonly realm: TokenRealm;
  /** As the `scope` of a challenge: several separated by spaces. */
  readonly scope: string;
  readonly signal: AbortSignal;
}

type RefreshCredentials = Extract<Credentials, { kind: 'refresh-token' }>;

const maxAnswerBytes = 1024 * 1024;
const clientId = 'peel';

/** Whether the server does not want to give this to this person; another scope or other credentials may do. */
export function isRefusal(error: unknown): error is RegistryError {
  return error instanceof RegistryError && [400, 401, 403].includes(error.status ?? 0);
}

/** The conversation with the token servers of one registry on behalf of one person. */
export class TokenServer {
  readonly #options: TokenServerOptions;
  readonly #credentials: Credentials | undefined;
  /** Token servers may replace the refresh token with each answer, so one is asked after the other; kept in memory only. */
  #replaced: string | undefined;
  readonly #turn = new Semaphore(1);

  constructor(options: TokenServerOptions, credentials: Credentials | undefined) {
    this.#options = options;
    this.#credentials = credentials;
  }

  /** Errors: UNAUTHORIZED, DENIED, RESPONSE_INVALID, TOO_LARGE, those of the transfer. */
  async ask(question: TokenQuestion): Promise<TokenAnswer> {
    const credentials = this.#credentials;
    if (credentials?.kind !== 'refresh-token') return await this.#get(question, credentials);
    try {
      return await this.#turn.run(() => this.#refresh(question, credentials), question);
    } catch (refusal) {
      // Servers that speak only the older form say so, or refuse a POST as if the token were wrong: Artifactory with 401, Azure with 400.
      if (!(refusal instanceof RegistryError) || ![400, 401, 404, 405].includes(refusal.status ?? 0)) throw refusal;
      try {
        return await this.#getWithToken(question, credentials);
      } catch (error) {
        throw isRefusal(error) && isRefusal(refusal) ? refusal : error;
      }
    }
  }

  async #refresh(question: TokenQuestion, credentials: RefreshCredentials): Promise<TokenAnswer> {
    try {
      const answer = await this.#send(refreshRequest(question, this.#replaced ?? credentials.token));
      this.#replaced = answer.refreshToken ?? this.#replaced;
      return answer;
    } catch (error) {
      if (this.#replaced === undefined || !isRefusal(error)) throw error;
      // Somebody else had the token replaced after us; the one that was configured may still do.
      this.#replaced = undefined;
      return await this.#refresh(question, credentials);
    }
  }

  #get(question: TokenQuestion, credentials: Credentials | undefined): Promise<TokenAnswer> {
    const { username, password } = credentials?.kind === 'password' ? credentials : {};
    return this.#send(getRequest(question, username, password));
  }

  #getWithToken(question: TokenQuestion, { username, token }: RefreshCredentials): Promise<TokenAnswer> {
    return this.#send(getRequest(question, username ?? '', token));
  }

  async #send(message: HttpRequest): Promise<TokenAnswer> {
    const { backoff: policy = defaultBackoff, timer = systemTimer } = this.#options;
    const decide = (error: unknown) =>
      error instanceof RegistryError && error.retryable ? { afterMs: error.retryAfterMs } : undefined;
    try {
      return await retry(() => this.#exchange(message), { decide, policy, timer, signal: message.signal });
    } catch (error) {
      // The request that needs the token does not multiply the attempts by its own.
      throw error instanceof RegistryError && error.retryable ? error.afterRetries() : error;
    }
  }

  async #exchange(message: HttpRequest): Promise<TokenAnswer> {
    const response = await exchange(this.#options.connections, message);
    const bytes = await collect(response, message.method, { limit: maxAnswerBytes, signal: message.signal });
    const server = `token server ${urlForPeople(message.url)}`;
    // A redirect could carry the password elsewhere, so it is not followed.
    if (response.status === 200) return parseTokenAnswer(bytes, response.header('date'), server);
    const quoted = quotesSecret(bytes, [...secretsOf(this.#credentials), this.#replaced ?? '']);
    throw answerError(response, quoted ? Buffer.alloc(0) : bytes, server);
  }
}

function refreshRequest({ realm, scope, signal }: TokenQuestion, refreshToken: string): HttpRequest {
  const form = new URLSearchParams({
    grant_type: 'refresh_token',
    client_id: clientId,
    refresh_token: refreshToken,
    scope,
  });
  if (realm.service !== undefined) form.set('service', realm.service);
  const bytes = Buffer.from(form.toString());
  const headers = { accept: 'application/json', 'content-type': 'application/x-www-form-urlencoded' };
  return { method: 'POST', url: realm.url, headers, body: { size: bytes.byteLength, open: () => bytes }, signal };
}

/** Anonymous without a password. */
function getRequest(
  { realm, scope, signal }: TokenQuestion,
  username: string | undefined,
  password: string | undefined,
): HttpRequest {
  const url = new URL(realm.url);
  if (realm.service !== undefined) url.searchParams.set('service', realm.service);
  for (const one of scope.split(' ').filter((text) => text !== '')) url.searchParams.append('scope', one);
  const headers: Record<string, string> = { accept: 'application/json' };
  if (username !== undefined && password !== undefined) {
    headers['authorization'] = basicAuthorization(username, password);
    if (username !== '') url.searchParams.set('account', username);
  }
  url.searchParams.set('client_id', clientId);
  return { method: 'GET', url, headers, signal };
}
