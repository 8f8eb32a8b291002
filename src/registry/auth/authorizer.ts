import type { HttpConnections } from '../client/http.ts';
import { isLoopbackHost } from '../client/endpoint.ts';
import { RegistryError } from '../errors.ts';
import type { CallOptions } from '../interface.ts';
import { BearerTokens } from './bearer-tokens.ts';
import type { TokenRealm } from './bearer-tokens.ts';
import type { Challenge } from './challenge.ts';
import { basicAuthorization } from './credentials.ts';
import type { CredentialSource, Credentials } from './credentials.ts';
import { Scope } from './scope.ts';

export interface AuthorizerOptions {
  /** As in a reference; what credentials are looked up by. */
  readonly host: string;
  readonly endpoint: URL;
  readonly credentials: CredentialSource;
  readonly connections: HttpConnections;
  readonly now?: (() => number) | undefined;
}

/** Knows how one registry wants to be asked: nothing is sent before it has challenged us, and credentials are looked up once. */
export class Authorizer {
  readonly #options: AuthorizerOptions;
  readonly #tokens: BearerTokens;
  #credentials: Promise<Credentials | undefined> | undefined;
  #mode: { readonly scheme: 'basic' } | { readonly scheme: 'bearer'; readonly realm: TokenRealm } | undefined;

  constructor(options: AuthorizerOptions) {
    this.#options = options;
    this.#tokens = new BearerTokens(options);
  }

  /** The Authorization header for a request that needs `scope`; undefined when none is known to be needed. */
  async authorization(scope: Scope, options: CallOptions = {}): Promise<string | undefined> {
    if (this.#mode === undefined) return undefined;
    const credentials = await this.#lookup(options);
    if (credentials?.kind === 'access-token') return `Bearer ${credentials.token}`;
    if (this.#mode.scheme === 'basic') {
      return credentials?.kind === 'password'
        ? basicAuthorization(credentials.username, credentials.password)
        : undefined;
    }
    return `Bearer ${this.#tokens.cached(scope) ?? (await this.#tokens.acquire(this.#mode.realm, scope, credentials, options))}`;
  }

  /**
   * Learns from a 401. Returns the header to try once more with, or undefined when there is nothing better than what was
   * `refused`. A bearer challenge may ask for more than we thought, so its scope is added.
   */
  async answerChallenge(
    challenges: readonly Challenge[],
    scope: Scope,
    refused: string | undefined,
    options: CallOptions = {},
  ): Promise<string | undefined> {
    const credentials = await this.#lookup(options);
    const bearer = challenges.find(({ scheme }) => scheme === 'bearer');
    const realm = bearer === undefined ? undefined : this.#realmOf(bearer);
    let answer: string | undefined;
    if (realm !== undefined) {
      this.#mode = { scheme: 'bearer', realm };
      if (credentials?.kind === 'access-token') answer = `Bearer ${credentials.token}`;
      else {
        if (refused?.startsWith('Bearer ')) this.#tokens.forget(refused.slice(7));
        const wanted = scope.union(Scope.parse(bearer?.parameters.get('scope') ?? ''));
        answer = `Bearer ${this.#tokens.cached(wanted) ?? (await this.#tokens.acquire(realm, wanted, credentials, options))}`;
      }
    } else if (challenges.some(({ scheme }) => scheme === 'basic') && credentials?.kind === 'password') {
      this.#mode = { scheme: 'basic' };
      answer = basicAuthorization(credentials.username, credentials.password);
    }
    return answer === refused ? undefined : answer;
  }

  #lookup(options: CallOptions): Promise<Credentials | undefined> {
    if (this.#credentials === undefined) {
      const lookup = this.#options.credentials.lookup(this.#options.host, options);
      this.#credentials = lookup;
      // A failure (a helper that timed out, a caller that left) is not remembered.
      lookup.catch(() => {
        if (this.#credentials === lookup) this.#credentials = undefined;
      });
    }
    return this.#credentials;
  }

  /** Errors: RESPONSE_INVALID for a realm that is no URL or that would carry a password in the clear. */
  #realmOf(challenge: Challenge): TokenRealm | undefined {
    const text = challenge.parameters.get('realm');
    if (text === undefined) return undefined;
    const url = URL.canParse(text) ? new URL(text) : undefined;
    const clear =
      url?.protocol === 'http:' && (this.#options.endpoint.protocol === 'http:' || isLoopbackHost(url.host));
    if (url === undefined || (url.protocol !== 'https:' && !clear)) {
      throw new RegistryError(
        'RESPONSE_INVALID',
        `${this.#options.host} names a token server that cannot be used: ${JSON.stringify(text.slice(0, 200))}`,
      );
    }
    return { url, service: challenge.parameters.get('service') };
  }
}
