import { OnceMap } from '../../util/once-map.ts';
import type { CallOptions } from '../interface.ts';
import { helperGet } from './credential-helper.ts';
import type { Credentials } from './credentials.ts';

export interface HelperAnswersOptions {
  /** How long a helper may take. */
  readonly timeoutMs: number;
  readonly now?: (() => number) | undefined;
}

/** How long an answer is good that does not say so itself. */
const keptMs = 15 * 60_000;
const longestKeptMs = 12 * 60 * 60_000;
/** Before a token's own end. */
const marginMs = 60_000;
const maxAnswers = 256;

/** What credential helpers said, for a bounded time: a helper may start a browser, ask a cloud or take a second. */
export class HelperAnswers {
  readonly #options: HelperAnswersOptions;
  readonly #flights = new OnceMap<string, Credentials | undefined | 'missing'>();
  readonly #kept = new Map<string, { readonly credentials: Credentials; readonly until: number }>();

  constructor(options: HelperAnswersOptions) {
    this.#options = options;
  }

  /** As `helperGet`. `fresh` asks again whatever is kept. Callers at the same time share one helper. Errors: CREDENTIALS_INVALID. */
  async get(
    name: string,
    server: string,
    options: CallOptions & { readonly fresh?: boolean | undefined } = {},
  ): Promise<Credentials | undefined | 'missing'> {
    const key = `${name} ${server}`;
    const { timeoutMs, now = Date.now } = this.#options;
    const kept = this.#kept.get(key);
    if (options.fresh !== true && kept !== undefined && kept.until > now()) return kept.credentials;
    return await this.#flights.run(
      key,
      async (signal) => {
        this.#kept.delete(key);
        const answer = await helperGet(server, { name, timeoutMs, signal });
        if (answer !== undefined && answer !== 'missing') this.#keep(key, answer, now());
        return answer;
      },
      options,
    );
  }

  /** After a login or a logout. */
  forget(name: string, server: string): void {
    this.#kept.delete(`${name} ${server}`);
  }

  #keep(key: string, credentials: Credentials, now: number): void {
    const end = endOf(credentials.kind === 'password' ? credentials.password : credentials.token);
    const until = end === undefined ? now + keptMs : Math.min(end - marginMs, now + longestKeptMs);
    if (this.#kept.size >= maxAnswers) this.#kept.clear();
    this.#kept.set(key, { credentials, until });
  }
}

/** The `exp` of a JWT (RFC 7519 section 4.1.4) in ms since 1970; undefined for other secrets. */
function endOf(secret: string): number | undefined {
  const payload = /^[\w-]+\.([\w-]+)\.[\w-]*$/.exec(secret)?.[1];
  if (payload === undefined) return undefined;
  try {
    const claims: unknown = JSON.parse(Buffer.from(payload, 'base64url').toString('utf8'));
    const { exp } = (claims ?? {}) as { readonly exp?: unknown };
    return typeof exp === 'number' && Number.isFinite(exp) ? exp * 1000 : undefined;
  } catch {
    return undefined;
  }
}
