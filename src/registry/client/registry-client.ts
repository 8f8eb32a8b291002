// The policy around each HTTP exchange with one registry: authorization, redirects, retries, errors.
import { retry } from '../../util/backoff.ts';
import type { BackoffPolicy, BackoffTimer, RetryDecision } from '../../util/backoff.ts';
import { RetryBudget } from '../../util/retry-budget.ts';
import type { Authorization, Authorizer } from '../auth/authorizer.ts';
import { parseChallenges } from '../auth/challenge.ts';
import type { Scope } from '../auth/scope.ts';
import { quotesSecret, secretsOf } from '../auth/secrets.ts';
import { RegistryError, hasCode } from '../errors.ts';
import { answerError, printable } from './answer-error.ts';
import type { Subject } from './answer-error.ts';
import type { WhenAway } from '../interface.ts';
import type { CircuitBreaker } from './circuit-breaker.ts';
import { collect, exchange, urlForPeople } from './http.ts';
import type { HttpBody, HttpConnections, HttpResponse, Method } from './http.ts';
import { parseRateLimit } from './rate-limit.ts';
import type { RateLimit } from './rate-limit.ts';
import type { TlsFallback } from './tls-fallback.ts';

export interface ClientRequest {
  readonly method: Method;
  readonly url: URL;
  /** For messages: `manifest library/debian:12`. */
  readonly what: string;
  readonly subject: Subject;
  readonly scope: Scope;
  readonly headers?: Readonly<Record<string, string>> | undefined;
  readonly body?: HttpBody | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Statuses that are answers; all others become errors. */
  readonly accept: readonly number[];
  /** `once` for requests that are not idempotent and for callers that retry something larger. */
  readonly attempts?: 'once' | 'policy' | undefined;
  readonly whenAway?: WhenAway | undefined;
}

export interface RegistryClientOptions {
  readonly host: string;
  /** Scheme, host and port of the API. */
  readonly endpoint: URL;
  /** What stands in the place of `/v2` in its paths. */
  readonly root: string;
  /** Sent as `ns` with every request: the registry that a mirror is asked on behalf of. */
  readonly namespace: string | undefined;
  /** For requests to the registry itself, never for where it redirects. */
  readonly headers: Readonly<Record<string, string>>;
  readonly tlsFallback: TlsFallback | undefined;
  readonly connections: HttpConnections;
  readonly authorizer: Authorizer;
  readonly backoff: BackoffPolicy;
  readonly timer: BackoffTimer;
  /** Default: the registry is asked however often it failed. */
  readonly breaker?: CircuitBreaker | undefined;
  /** Bytes of answers' bodies as they arrive. */
  readonly onBytes: (bytes: number) => void;
  /** Text for people, each once: warnings of the registry, ranges it ignored. */
  readonly onWarning: (text: string) => void;
}

const maxRedirects = 10;
const maxErrorBytes = 64 * 1024;
const maxWarnings = 1_000;
const retriesAtOnce = 200;
/** A stale password, a replaced one, a wider scope. */
const maxAnswers = 3;

export class RegistryClient {
  readonly options: RegistryClientOptions;
  /** Of all requests of this client together. */
  readonly retryBudget = new RetryBudget(retriesAtOnce);
  readonly #warned = new Set<string>();
  #rateLimit: RateLimit | undefined;

  constructor(options: RegistryClientOptions) {
    this.options = options;
  }

  /** As told by the registry with its last answer that told any. */
  get rateLimit(): RateLimit | undefined {
    return this.#rateLimit;
  }

  /** A URL of the registry's API. `path` begins with /v2 and is made of checked names. */
  url(path: string, query: Readonly<Record<string, string | undefined>> = {}): URL {
    const { endpoint, root, namespace } = this.options;
    const url = new URL(`${root}${path.slice('/v2'.length)}`, endpoint);
    if (namespace !== undefined) url.searchParams.set('ns', namespace);
    for (const [name, value] of Object.entries(query)) if (value !== undefined) url.searchParams.set(name, value);
    return url;
  }

  /** Errors: those of `answerError`, RESPONSE_INVALID for bad redirects, those of the transfer, the signal's reason. */
  send(request: ClientRequest): Promise<HttpResponse> {
    if (request.attempts === 'once') return this.#attempt(request);
    return this.retry(() => this.#attempt(request), request.signal);
  }

  /** `send` and the whole body, at most `limit` bytes; a body that breaks is asked for again. */
  sendAndCollect(request: ClientRequest, limit: number): Promise<{ response: HttpResponse; bytes: Buffer }> {
    const { onBytes } = this.options;
    const attempt = async () => {
      const response = await this.#attempt(request);
      this.#mustBePlain(response, request);
      return { response, bytes: await collect(response, request.method, { limit, signal: request.signal, onBytes }) };
    };
    return request.attempts === 'once' ? attempt() : this.retry(attempt, request.signal);
  }

  /** Sends a DELETE. Gone is what was to be achieved when an attempt before may have done it without our hearing of it. */
  async delete(request: Omit<ClientRequest, 'method' | 'accept'>): Promise<void> {
    let perhapsDone = false;
    await this.retry(async () => {
      const accept = perhapsDone ? [200, 202, 204, 404] : [200, 202, 204];
      try {
        discard(await this.#attempt({ ...request, method: 'DELETE', accept }));
      } catch (error) {
        perhapsDone ||= !hasCode(error, 'TOOMANYREQUESTS');
        throw error;
      }
    }, request.signal);
  }

  /** `work` again as the policy of this client says, while its failures are such that pass. */
  retry<T>(work: () => Promise<T>, signal: AbortSignal | undefined): Promise<T> {
    const { backoff: policy, timer } = this.options;
    return retry(work, { decide: retryDecision, policy, timer, signal, budget: this.retryBudget });
  }

  /** Tells `text` to the person once per client. */
  warn(text: string): void {
    if (this.#warned.has(text) || this.#warned.size >= maxWarnings) return;
    this.#warned.add(text);
    this.options.onWarning(text);
  }

  /** One request, if the registry is asked at all. */
  async #attempt(request: ClientRequest): Promise<HttpResponse> {
    const pass = this.options.breaker?.enter(request.whenAway);
    try {
      const response = await this.#ask(request);
      pass?.answered();
      return response;
    } catch (error) {
      throw pass?.failed(error) ?? error;
    }
  }

  async #ask(request: ClientRequest): Promise<HttpResponse> {
    const { authorizer } = this.options;
    const { signal, scope } = request;
    await this.options.tlsFallback?.settle(signal);
    // Elsewhere, where the registry once sent us, nothing is told of who asks.
    const isElsewhere = !this.#isRegistry(this.#current(request.url));
    let authorization = isElsewhere ? undefined : await authorizer.authorization(scope, { signal });
    let response = await this.#follow(request, authorization?.header);
    for (let answers = 0; isRefused(response, authorization) && this.#isRegistry(response.url); answers += 1) {
      const body = await this.#errorBody(response, request, authorization);
      const challenges = parseChallenges(response.headers('www-authenticate'));
      const next =
        answers === maxAnswers
          ? undefined
          : await authorizer.answerChallenge(challenges, scope, authorization, { signal });
      if (next === undefined) {
        // Who has just been given a token is known: logging in again does not help.
        const known = authorization?.isNew === true && authorization.credentials !== undefined;
        throw answerError(response, body, this.#nameOf(request), request.subject, known ? 'DENIED' : undefined);
      }
      authorization = next;
      response = await this.#follow(request, authorization.header);
    }
    if (this.#isRegistry(response.url))
      this.#rateLimit = parseRateLimit((name) => response.header(name)) ?? this.#rateLimit;
    for (const warning of response.headers('warning'))
      if (!quotesSecret(Buffer.from(warning), secretsIn(authorization))) this.#reportWarning(warning);
    if (request.accept.includes(response.status)) return response;
    const body = await this.#errorBody(response, request, authorization);
    throw answerError(response, body, this.#nameOf(request), request.subject);
  }

  async #follow(request: ClientRequest, authorization: string | undefined): Promise<HttpResponse> {
    const { method, body, signal } = request;
    let url = this.#current(request.url);
    for (let hops = 0; ; hops += 1) {
      // Credentials and what was configured for the registry are for it alone, wherever it sends us.
      const own = this.#isRegistry(url) ? this.options.headers : {};
      const auth = authorization !== undefined && this.#isRegistry(url) ? { authorization } : {};
      const headers = { 'user-agent': 'peel', ...own, 'accept-encoding': 'identity', ...request.headers, ...auth };
      const response = await exchange(this.options.connections, { method, url, headers, body, signal });
      if (!isRedirect(response.status, method)) return response;
      discard(response);
      if (hops === maxRedirects)
        throw new RegistryError('RESPONSE_INVALID', `${this.#nameOf(request)}: more than ${maxRedirects} redirects`);
      url = this.#redirectTarget(response, request);
    }
  }

  #redirectTarget(response: HttpResponse, request: ClientRequest): URL {
    const location = response.header('location');
    if (location === undefined || !URL.canParse(location, response.url.href)) {
      throw new RegistryError('RESPONSE_INVALID', `${this.#nameOf(request)}: redirect without a valid location`, {
        status: response.status,
      });
    }
    const url = new URL(location, response.url);
    const downgrade = response.url.protocol === 'https:' && url.protocol !== 'https:';
    if (downgrade || (url.protocol !== 'https:' && url.protocol !== 'http:')) {
      throw new RegistryError(
        'RESPONSE_INVALID',
        `${this.#nameOf(request)}: redirect to ${urlForPeople(url)} is not secure`,
        { status: response.status },
      );
    }
    return url;
  }

  /** What the registry says of an error; nothing when that repeats a secret. */
  async #errorBody(
    response: HttpResponse,
    request: ClientRequest,
    authorization: Authorization | undefined,
  ): Promise<Uint8Array> {
    try {
      const body = await collect(response, request.method, { limit: maxErrorBytes, signal: request.signal });
      return quotesSecret(body, secretsIn(authorization)) ? new Uint8Array() : body;
    } catch (error) {
      request.signal?.throwIfAborted();
      // The status says enough when the explanation is too long or cut off.
      if (error instanceof RegistryError) return new Uint8Array();
      throw error;
    }
  }

  /** We ask for no encoding, and what is encoded hashes to something else. Errors: RESPONSE_INVALID. */
  #mustBePlain(response: HttpResponse, request: ClientRequest): void {
    const encoding = response.header('content-encoding') ?? 'identity';
    if (encoding === 'identity') return;
    response.body.on('error', () => {}).destroy();
    throw new RegistryError(
      'RESPONSE_INVALID',
      `${this.#nameOf(request)}: sent with content-encoding ${printable(encoding)}`,
    );
  }

  #current(url: URL): URL {
    return this.options.tlsFallback?.current(url) ?? url;
  }

  #isRegistry(url: URL): boolean {
    return url.origin === this.options.endpoint.origin;
  }

  #nameOf(request: ClientRequest): string {
    return `${request.what} at ${this.options.host}`;
  }

  /** Distribution spec, "Warnings": `299 - "text"`. */
  #reportWarning(header: string): void {
    const quoted = /^299 - "((?:[^"\\]|\\.){1,4096})"/.exec(header)?.[1];
    if (quoted !== undefined) this.warn(`${this.options.host} warns: ${printable(quoted.replace(/\\(.)/g, '$1'))}`);
  }
}

/** Amazon's registry says 403 when the password that its helper gave has expired; with a token 403 is about the thing that was asked for. */
function isRefused({ status }: HttpResponse, authorization: Authorization | undefined): boolean {
  return status === 401 || (status === 403 && authorization !== undefined && authorization.token === undefined);
}

function secretsIn(authorization: Authorization | undefined): string[] {
  if (authorization === undefined) return [];
  return [authorization.header.replace(/^\S+ /, ''), ...secretsOf(authorization.credentials)];
}

/** Lets the connection be used again when little is left to read, and drops it otherwise. */
export function discard(response: HttpResponse): void {
  const { method, status, body } = response;
  body.on('error', () => {});
  const size = method === 'HEAD' || status === 204 ? 0 : Number(response.header('content-length') ?? Number.NaN);
  // What does not say how long it is may have no end.
  if (size <= maxErrorBytes) body.resume();
  else body.destroy();
}

export function retryDecision(error: unknown): RetryDecision {
  return error instanceof RegistryError && error.retryable && !error.retried
    ? { afterMs: error.retryAfterMs }
    : undefined;
}

function isRedirect(status: number, method: Method): boolean {
  if (status === 307 || status === 308) return true;
  return (status === 301 || status === 302 || status === 303) && (method === 'GET' || method === 'HEAD');
}
