import { OnceMap } from '../../util/once-map.ts';
import type { CallOptions } from '../interface.ts';
import type { Credentials } from './credentials.ts';
import { Scope } from './scope.ts';
import type { TokenAnswer } from './token-answer.ts';
import { TokenServer, isRefusal } from './token-server.ts';
import type { TokenRealm, TokenServerOptions } from './token-server.ts';

export interface BearerToken {
  readonly value: string;
  readonly scope: Scope;
  /** Where it came from. */
  readonly realm: TokenRealm;
}

export interface TokenWish {
  readonly realm: TokenRealm;
  /** What a request needs. */
  readonly scope: Scope;
  /** What later requests will need. */
  readonly besides: Scope;
  /** The scope of the challenge just as the registry wrote it. */
  readonly challenged?: string | undefined;
}

export interface BearerTokensOptions extends TokenServerOptions {
  /** ms since some moment, never going back; replaced in tests. */
  readonly now?: (() => number) | undefined;
}

interface KeptToken extends BearerToken {
  readonly expiresAt: number;
}

const longestMarginMs = 5_000;
const maxTokens = 256;

/** The tokens of one person at one registry, kept until shortly before they expire. */
export class BearerTokens {
  readonly #server: TokenServer;
  readonly #now: () => number;
  readonly #flights = new OnceMap<string, BearerToken>();
  #tokens: KeptToken[] = [];

  constructor(options: BearerTokensOptions, credentials: Credentials | undefined) {
    this.#server = new TokenServer(options, credentials);
    this.#now = options.now ?? (() => performance.now());
  }

  /** A token that is enough for `scope` and still good. */
  cached(scope: Scope): BearerToken | undefined {
    const now = this.#now();
    this.#tokens = this.#tokens.filter((token) => token.expiresAt > now);
    return this.#tokens.find((token) => token.scope.contains(scope));
  }

  /** The registry did not take this token any more. */
  forget(value: string): void {
    this.#tokens = this.#tokens.filter((token) => token.value !== value);
  }

  /**
   * Asks for everything at once, and where the server refuses that, for exactly what the registry named: some look at the text only.
   * Callers that want the same at the same time share one request. Errors: those of `TokenServer.ask`.
   */
  acquire(wish: TokenWish, options: CallOptions = {}): Promise<BearerToken> {
    const { realm, besides, challenged = '' } = wish;
    const named = Scope.parse(challenged);
    const needed = wish.scope.union(named);
    const all = needed.union(besides);
    const text = all.toString() === named.toString() ? challenged : all.toString();
    const key = [realm.url.href, realm.service ?? '', text, challenged].join('\n');
    const work = async (signal: AbortSignal): Promise<BearerToken> => {
      const since = this.#now();
      try {
        const answer = await this.#server.ask({ realm, scope: text, signal });
        return this.#keep(answer, { realm, scope: all }, since);
      } catch (error) {
        if (!isRefusal(error) || challenged === '' || challenged === text) throw error;
        const answer = await this.#server.ask({ realm, scope: challenged, signal });
        return this.#keep(answer, { realm, scope: needed }, since);
      }
    };
    return this.#flights.run(key, work, options);
  }

  /** A token's life counts from before it was asked for. */
  #keep(answer: TokenAnswer, facts: Omit<BearerToken, 'value'>, since: number): BearerToken {
    const expiresAt = since + answer.lifetimeMs - Math.min(longestMarginMs, answer.lifetimeMs / 4);
    const token = { ...facts, value: answer.token, expiresAt };
    this.#tokens = [token, ...this.#tokens].slice(0, maxTokens);
    return token;
  }
}
