import { OnceMap } from '../../util/once-map.ts';
import { printable } from '../client/answer-error.ts';
import { isLoopbackHost } from '../client/endpoint.ts';
import { RegistryError } from '../errors.ts';
import type { CallOptions } from '../interface.ts';
import { BearerTokens } from './bearer-tokens.ts';
import type { BearerToken, BearerTokensOptions } from './bearer-tokens.ts';
import type { Challenge } from './challenge.ts';
import { basicAuthorization, sameCredentials } from './credentials.ts';
import type { CredentialSource, Credentials } from './credentials.ts';
import { Scope } from './scope.ts';
import { isRefusal } from './token-server.ts';
import type { TokenRealm } from './token-server.ts';

export interface AuthorizerOptions extends BearerTokensOptions {
  /** As in a reference; what credentials are looked up by. */
  readonly host: string;
  readonly endpoint: URL;
  readonly credentials: CredentialSource;
  /** What tokens are asked for besides what a request needs, so that one serves many requests. */
  readonly besides?: Scope | undefined;
}

/** What a request says of who sends it. */
export interface Authorization {
  readonly header: string;
  readonly credentials: Credentials | undefined;
  /** What the header holds where that is not the credentials themselves. */
  readonly token?: BearerToken | undefined;
  /** The token was made for this very request. */
  readonly isNew?: boolean | undefined;
}

type Mode = { readonly scheme: 'basic' } | { readonly scheme: 'bearer'; readonly realm: TokenRealm };

/** Long enough to spare a look at files with every request, and short enough that nobody waits for a changed file to be noticed. */
const heldMs = 5_000;
const maxRepositories = 1_024;
const maxPersons = 64;

/** Knows how one registry wants to be asked: nothing is sent before it has challenged us. */
export class Authorizer {
  readonly #options: AuthorizerOptions;
  readonly #besides: Scope;
  readonly #lookups = new OnceMap<string, Credentials | undefined>();
  /** By repository. */
  readonly #held = new Map<string, { readonly credentials: Credentials | undefined; readonly until: number }>();
  /** A token says who it was made for, so one person never uses another's. */
  readonly #tokens: { readonly credentials: Credentials | undefined; readonly tokens: BearerTokens }[] = [];
  #mode: Mode | undefined;

  constructor(options: AuthorizerOptions) {
    this.#options = options;
    this.#besides = options.besides ?? new Scope([]);
  }

  /** For a request that needs `scope`; undefined when nothing is known to be needed. Errors: CREDENTIALS_INVALID, those of the token server. */
  async authorization(scope: Scope, options: CallOptions = {}): Promise<Authorization | undefined> {
    const mode = this.#mode;
    if (mode === undefined) return undefined;
    try {
      return await this.#authorize(mode, scope, await this.#lookup(scope.repository ?? '', options), {}, options);
    } catch (error) {
      // The registry's own challenge may name less than we asked for, and is answered with credentials that are looked up anew.
      if (isRefusal(error)) return undefined;
      throw error;
    }
  }

  /**
   * Learns from a 401; without a challenge it is what we know already that was refused. Returns what to try next, or undefined when there is nothing better than what was `refused`. A bearer challenge
   * may ask for more than we thought, so its scope is added. Credentials that are refused are looked up once more: a password or a
   * helper's token may have been replaced since. Errors: those of `authorization`, RESPONSE_INVALID for a realm that cannot be used.
   */
  async answerChallenge(
    challenges: readonly Challenge[],
    scope: Scope,
    refused: Authorization | undefined,
    options: CallOptions = {},
  ): Promise<Authorization | undefined> {
    // A token before a password where both are offered: the registry, and who reads its traffic, then never sees the password.
    const bearer = challenges.find(({ scheme, parameters }) => scheme === 'bearer' && parameters.has('realm'));
    if (bearer !== undefined) this.#mode = { scheme: 'bearer', realm: this.#realmOf(bearer) };
    else if (challenges.some(({ scheme }) => scheme === 'basic')) this.#mode = { scheme: 'basic' };
    const mode = this.#mode;
    if (mode === undefined || (bearer === undefined && challenges.length > 0 && mode.scheme === 'bearer'))
      return undefined;
    const repository = scope.repository ?? '';
    const context = { refused, challenged: bearer?.parameters.get('scope') };
    const held = await this.#lookup(repository, options);
    let refusal: RegistryError | undefined;
    try {
      const answer = await this.#authorize(mode, scope, held, context, options);
      if (answer !== undefined) return answer;
    } catch (error) {
      if (!isRefusal(error)) throw error;
      refusal = error;
    }
    const other = await this.#lookupInsteadOf(held, repository, options);
    if (!sameCredentials(other, held)) return await this.#authorize(mode, scope, other, context, options);
    // As docker does it, a refused password is an error and never made up for by asking without it.
    if (refusal !== undefined) throw refusal;
    return undefined;
  }

  /** Undefined when there is nothing to say, or nothing but what was refused. */
  async #authorize(
    mode: Mode,
    scope: Scope,
    credentials: Credentials | undefined,
    context: { readonly refused?: Authorization | undefined; readonly challenged?: string | undefined },
    options: CallOptions,
  ): Promise<Authorization | undefined> {
    const { refused, challenged } = context;
    let header: string | undefined;
    if (credentials?.kind === 'access-token') header = `Bearer ${credentials.token}`;
    else if (mode.scheme === 'bearer') {
      const tokens = this.#tokensOf(credentials);
      const needed = scope.union(Scope.parse(challenged ?? ''));
      if (refused !== undefined && sameCredentials(refused.credentials, credentials)) {
        if (refused.isNew === true && isEnough(refused.token, mode.realm, needed)) return undefined;
        if (refused.token !== undefined) tokens.forget(refused.token.value);
      }
      const cached = tokens.cached(needed);
      if (cached !== undefined) return { header: `Bearer ${cached.value}`, credentials, token: cached };
      const wish = { realm: mode.realm, scope, besides: this.#besides, challenged };
      const token = await tokens.acquire(wish, options);
      return { header: `Bearer ${token.value}`, credentials, token, isNew: true };
    } else if (credentials?.kind === 'password') {
      header = basicAuthorization(credentials.username, credentials.password);
    }
    return header === undefined || header === refused?.header ? undefined : { header, credentials };
  }

  #tokensOf(credentials: Credentials | undefined): BearerTokens {
    const known = this.#tokens.find((one) => sameCredentials(one.credentials, credentials));
    if (known !== undefined) return known.tokens;
    const tokens = new BearerTokens(this.#options, credentials);
    this.#tokens.push({ credentials, tokens });
    if (this.#tokens.length > maxPersons) this.#tokens.shift();
    return tokens;
  }

  async #lookup(repository: string, options: CallOptions): Promise<Credentials | undefined> {
    const held = this.#held.get(repository);
    if (held !== undefined && held.until > this.#now()) return held.credentials;
    return await this.#ask(repository, { fresh: false }, options);
  }

  /** Asks the source itself, unless somebody else did so since `refused` was looked up. */
  async #lookupInsteadOf(
    refused: Credentials | undefined,
    repository: string,
    options: CallOptions,
  ): Promise<Credentials | undefined> {
    const held = this.#held.get(repository);
    if (held !== undefined && !sameCredentials(held.credentials, refused)) return held.credentials;
    return await this.#ask(repository, { fresh: true }, options);
  }

  /** Callers at the same time share one lookup. A failure (a helper that timed out) is not remembered. */
  #ask(repository: string, { fresh }: { readonly fresh: boolean }, options: CallOptions) {
    const { credentials: source, host } = this.#options;
    const work = async (signal: AbortSignal) => {
      const credentials = await source.lookup(host, { repository: repository || undefined, fresh, signal });
      if (this.#held.size >= maxRepositories) this.#held.clear();
      this.#held.set(repository, { credentials, until: this.#now() + heldMs });
      return credentials;
    };
    return this.#lookups.run(`${fresh ? 'fresh ' : ''}${repository}`, work, options);
  }

  #now(): number {
    return this.#options.now?.() ?? performance.now();
  }

  /** Errors: RESPONSE_INVALID for a realm that is no URL or that would carry a password in the clear. */
  #realmOf(challenge: Challenge): TokenRealm {
    const text = challenge.parameters.get('realm') ?? '';
    const url = URL.canParse(text) ? new URL(text) : undefined;
    const clear =
      url?.protocol === 'http:' && (this.#options.endpoint.protocol === 'http:' || isLoopbackHost(url.host));
    if (url === undefined || (url.protocol !== 'https:' && !clear)) {
      throw new RegistryError(
        'RESPONSE_INVALID',
        `${this.#options.host} names a token server that cannot be used: "${printable(text.replace(/\?.*$/s, ''))}"`,
      );
    }
    return { url, service: challenge.parameters.get('service') };
  }
}

/** Registries may send each repository to a token server, or a service of one, of its own. */
function isEnough(token: BearerToken | undefined, realm: TokenRealm, scope: Scope): boolean {
  if (token === undefined) return false;
  const { url, service } = token.realm;
  return url.href === realm.url.href && service === realm.service && token.scope.contains(scope);
}
