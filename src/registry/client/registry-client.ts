// The policy around each HTTP exchange with one registry: authorization, redirects, retries, errors.
import { retry } from '../../util/backoff.ts';
import type { BackoffPolicy, BackoffTimer, RetryDecision } from '../../util/backoff.ts';
import type { Authorizer } from '../auth/authorizer.ts';
import { parseChallenges } from '../auth/challenge.ts';
import type { Scope } from '../auth/scope.ts';
import { RegistryError } from '../errors.ts';
import { answerError, printable } from './answer-error.ts';
import type { Subject } from './answer-error.ts';
import { collect, exchange, urlForPeople } from './http.ts';
import type { HttpBody, HttpConnections, HttpResponse, Method } from './http.ts';

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
}

export interface RegistryClientOptions {
  readonly host: string;
  readonly endpoint: URL;
  readonly connections: HttpConnections;
  readonly authorizer: Authorizer;
  readonly backoff: BackoffPolicy;
  readonly timer: BackoffTimer;
  /** Bytes of answers' bodies as they arrive. */
  readonly onBytes: (bytes: number) => void;
  /** Text for people, each once: warnings of the registry, ranges it ignored. */
  readonly onWarning: (text: string) => void;
}

const maxRedirects = 10;
const maxErrorBytes = 64 * 1024;
const maxWarnings = 1_000;

export class RegistryClient {
  readonly options: RegistryClientOptions;
  readonly #warned = new Set<string>();

  constructor(options: RegistryClientOptions) {
    this.options = options;
  }

  /** A URL of the registry's API. `path` is made of checked names. */
  url(path: string, query: Readonly<Record<string, string | undefined>> = {}): URL {
    const url = new URL(path, this.options.endpoint);
    for (const [name, value] of Object.entries(query)) if (value !== undefined) url.searchParams.set(name, value);
    return url;
  }

  /** Errors: those of `answerError`, RESPONSE_INVALID for bad redirects, those of the transfer, the signal's reason. */
  send(request: ClientRequest): Promise<HttpResponse> {
    if (request.attempts === 'once') return this.#attempt(request);
    const { backoff: policy, timer } = this.options;
    return retry(() => this.#attempt(request), { decide: retryDecision, policy, timer, signal: request.signal });
  }

  /** `send` and the whole body, at most `limit` bytes; a body that breaks is asked for again. */
  sendAndCollect(request: ClientRequest, limit: number): Promise<{ response: HttpResponse; bytes: Buffer }> {
    const { backoff: policy, timer, onBytes } = this.options;
    const attempt = async () => {
      const response = await this.#attempt(request);
      this.#mustBePlain(response, request);
      return { response, bytes: await collect(response, request.method, { limit, signal: request.signal, onBytes }) };
    };
    if (request.attempts === 'once') return attempt();
    return retry(attempt, { decide: retryDecision, policy, timer, signal: request.signal });
  }

  /** Tells `text` to the person once per client. */
  warn(text: string): void {
    if (this.#warned.has(text) || this.#warned.size >= maxWarnings) return;
    this.#warned.add(text);
    this.options.onWarning(text);
  }

  async #attempt(request: ClientRequest): Promise<HttpResponse> {
    const { authorizer } = this.options;
    const { signal, scope } = request;
    let authorization = await authorizer.authorization(scope, { signal });
    let response = await this.#follow(request, authorization);
    if (response.status === 401 && this.#isRegistry(response.url)) {
      const body = await this.#errorBody(response, request);
      const challenges = parseChallenges(response.headers('www-authenticate'));
      authorization = await authorizer.answerChallenge(challenges, scope, authorization, { signal });
      if (authorization === undefined) throw answerError(response, body, this.#nameOf(request), request.subject);
      response = await this.#follow(request, authorization);
    }
    for (const warning of response.headers('warning')) this.#reportWarning(warning);
    if (request.accept.includes(response.status)) return response;
    throw answerError(response, await this.#errorBody(response, request), this.#nameOf(request), request.subject);
  }

  async #follow(request: ClientRequest, authorization: string | undefined): Promise<HttpResponse> {
    const { method, body, signal } = request;
    let { url } = request;
    for (let hops = 0; ; hops += 1) {
      // Credentials are for the registry alone, wherever it sends us.
      const auth = authorization !== undefined && this.#isRegistry(url) ? { authorization } : {};
      const headers = { 'user-agent': 'peel', 'accept-encoding': 'identity', ...request.headers, ...auth };
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

  async #errorBody(response: HttpResponse, request: ClientRequest): Promise<Uint8Array> {
    try {
      return await collect(response, request.method, { limit: maxErrorBytes, signal: request.signal });
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

/** Lets the connection be used again when little is left to read, and drops it otherwise. */
export function discard(response: HttpResponse): void {
  response.body.on('error', () => {});
  const size = Number(response.header('content-length') ?? 0);
  if (size <= maxErrorBytes && response.header('transfer-encoding') === undefined) response.body.resume();
  else response.body.destroy();
}

export function retryDecision(error: unknown): RetryDecision {
  return error instanceof RegistryError && error.retryable ? { afterMs: error.retryAfterMs } : undefined;
}

function isRedirect(status: number, method: Method): boolean {
  if (status === 307 || status === 308) return true;
  return (status === 301 || status === 302 || status === 303) && (method === 'GET' || method === 'HEAD');
}
