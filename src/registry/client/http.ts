// One HTTP exchange, without any policy: no redirects, no retries, no authorization.
import { Readable } from 'node:stream';
import type { Dispatcher } from 'undici';
import { RegistryError } from '../errors.ts';
import { Agents, directRoute } from './agents.ts';
import type { AgentsOptions, Route } from './agents.ts';
import { certificateProblem, closedWithoutAnswer, wordsFor } from './connection-words.ts';
import { noProxy } from './proxy.ts';
import { loadUndici } from './undici-parts.ts';

export type Method = 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';

export interface HttpBody {
  readonly size: number;
  /** Called once per attempt, so that a request can be sent again after a 401 or a redirect. */
  open(): Readable | Uint8Array;
}

export interface HttpRequest {
  readonly method: Method;
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: HttpBody | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface HttpResponse {
  readonly method: Method;
  readonly status: number;
  readonly url: URL;
  readonly body: Readable;
  /** The first value of a header, by its name in lower case. */
  header(name: string): string | undefined;
  headers(name: string): readonly string[];
}

export interface HttpOptions {
  readonly connectTimeoutMs: number;
  /** From the end of the request to the head of the answer. */
  readonly headersTimeoutMs: number;
  /** The same after a PUT or PATCH: a registry that has taken a large blob may take minutes to store it. */
  readonly storeTimeoutMs: number;
  /** The longest silence within a body. */
  readonly bodyTimeoutMs: number;
  /** Connections per origin, kept for the next request. */
  readonly connections: number;
  /** Offer HTTP/2 to servers that speak TLS. */
  readonly allowH2: boolean;
}

export const defaultHttpOptions: HttpOptions = {
  connectTimeoutMs: 10_000,
  headersTimeoutMs: 30_000,
  storeTimeoutMs: 300_000,
  bodyTimeoutMs: 30_000,
  connections: 64,
  // One stream after another on many connections is as fast, and one broken connection breaks one transfer.
  allowH2: false,
};

const maxInformational = 100;

/**
 * The connections of one client. The code that makes them takes a tenth of a second to load, which a command that finds everything
 * on the node does not spend: it is loaded with the first request.
 */
export class HttpConnections {
  /** From the end of a PUT or PATCH to the head of the answer. */
  readonly storeTimeoutMs: number;
  readonly #options: AgentsOptions;
  readonly #given: Dispatcher | undefined;
  #agents: Promise<Agents> | undefined;

  /** `given`: somebody else's connections, to be used instead of own ones and not closed. */
  constructor(options: HttpOptions & Partial<AgentsOptions>, given?: Dispatcher) {
    this.#options = { tls: {}, proxy: noProxy, host: 'the registry', ...options };
    this.storeTimeoutMs = options.storeTimeoutMs;
    this.#given = given;
  }

  /** How a request to `url` leaves. Errors: CONFIG_INVALID for TLS settings that cannot be used. */
  async route(url: URL): Promise<Route> {
    if (this.#given !== undefined) return directRoute(this.#given, url);
    this.#agents ??= createAgents(this.#options);
    return await (await this.#agents).route(url);
  }

  /** Cuts what is under way. */
  async destroy(): Promise<void> {
    await (await this.#agents)?.destroy();
  }
}

async function createAgents(options: AgentsOptions): Promise<Agents> {
  return new Agents(await loadUndici(), options);
}

/** Errors: UNREACHABLE, TIMEOUT, UNTRUSTED, CONFIG_INVALID, SIZE_INVALID (the request body had another size), the signal's reason, what the request body failed with. */
export async function exchange(connections: HttpConnections, message: HttpRequest): Promise<HttpResponse> {
  const { method, url, signal, body } = message;
  const source = body?.open();
  let sourceError: Error | undefined;
  if (source instanceof Readable) source.once('error', (error) => (sourceError ??= error));
  const headers = { ...message.headers, ...(body === undefined ? {} : { 'content-length': String(body.size) }) };
  let proxy: URL | undefined;
  let informational = 0;
  try {
    const route = await connections.route(url);
    proxy = route.proxy;
    const answer = await route.dispatcher.request({
      origin: route.origin,
      path: route.path,
      method,
      headers: { ...headers, ...route.headers },
      // Not the source itself: undici destroys what it sends with an error of its own, which would look like one of the source.
      body: source instanceof Readable ? Readable.from(source, { objectMode: false }) : (source ?? null),
      ...(signal === undefined ? {} : { signal }),
      ...(method === 'PUT' || method === 'PATCH' ? { headersTimeout: connections.storeTimeoutMs } : {}),
      // The client closes the connection after each HEAD otherwise, in case the server sends a body all the same.
      ...(method === 'HEAD' ? { reset: false } : {}),
      // Each puts the time limit off, so that without an end of them there would be no limit.
      onInfo: () => {
        informational += 1;
        if (informational > maxInformational)
          throw new RegistryError('RESPONSE_INVALID', tooManyInformational(message));
      },
    });
    // An answer may come before all of the body was sent, and the rest is not wanted then.
    if (source instanceof Readable) answer.body.once('close', () => source.destroy());
    if (proxy !== undefined && answer.statusCode === 407) {
      answer.body.on('error', () => {}).destroy();
      throw proxyRefusal(message, proxy, '407');
    }
    const values = (name: string): readonly string[] => {
      const value = answer.headers[name];
      return value === undefined ? [] : typeof value === 'string' ? [value] : value;
    };
    return {
      method,
      status: answer.statusCode,
      url,
      body: answer.body,
      header: (name) => values(name)[0],
      headers: values,
    };
  } catch (error) {
    if (source instanceof Readable) source.destroy();
    signal?.throwIfAborted();
    // The connection breaks too when the source does; the source is what went wrong.
    if (sourceError !== undefined) throw sourceError;
    throw transferError(error, method, url, proxy);
  }
}

function tooManyInformational({ method, url }: HttpRequest): string {
  return `${method} ${urlForPeople(url)}: more than ${maxInformational} informational answers before the answer`;
}

/** What a failure of the connection or of a body under way means. */
function transferError(error: unknown, method: Method, url: URL, proxy?: URL): RegistryError {
  if (error instanceof RegistryError) return error;
  const what = nameOf(method, url, proxy);
  const { code } = error as { readonly code?: unknown };
  if (code === 'UND_ERR_HEADERS_TIMEOUT' || code === 'UND_ERR_BODY_TIMEOUT' || code === 'UND_ERR_CONNECT_TIMEOUT') {
    return new RegistryError('TIMEOUT', `${what}: the registry did not answer in time`, { cause: error });
  }
  if (code === 'UND_ERR_REQ_CONTENT_LENGTH_MISMATCH') {
    return new RegistryError('SIZE_INVALID', `${what}: the content has another size than announced`, { cause: error });
  }
  if (code === 'UND_ERR_RES_CONTENT_LENGTH_MISMATCH') {
    return new RegistryError('RESPONSE_INVALID', `${what}: the answer is longer than announced`, { cause: error });
  }
  if (code === 'UND_ERR_HEADERS_OVERFLOW') {
    return new RegistryError('TOO_LARGE', `${what}: the head of the answer is too large`, { cause: error });
  }
  if (error instanceof Error && error.name === 'HTTPParserError') {
    // Without a cause: the parser's error holds the answer, and the answer may hold a token.
    return new RegistryError('RESPONSE_INVALID', `${what}: the answer is not http`);
  }
  const untrusted = certificateProblem(code);
  if (untrusted !== undefined) return new RegistryError('UNTRUSTED', `${what}: ${untrusted}`, { cause: error });
  // The one thing that ends a CONNECT before the registry is asked: undici's message has the proxy's status.
  if (proxy !== undefined && code === 'UND_ERR_ABORTED') {
    const status = /\((\d{3})\)/.exec(error instanceof Error ? error.message : '')?.[1];
    return proxyRefusal({ method, url }, proxy, status ?? 'no');
  }
  if (closedWithoutAnswer(error)) {
    const perhaps = url.protocol === 'https:' ? 'for want of a client certificate' : 'because it speaks TLS only';
    const hint = `the connection was closed without an answer, perhaps ${perhaps}`;
    return new RegistryError('UNREACHABLE', `${what}: ${hint}`, { cause: error });
  }
  // Trying again with connections that were closed is of no use.
  if (code === 'UND_ERR_DESTROYED' || code === 'UND_ERR_CLOSED')
    return new RegistryError('UNREACHABLE', `${what}: the client was closed`, { cause: error, retried: true });
  const why = typeof code === 'string' ? wordsFor(code) : error instanceof Error ? error.message : 'connection failed';
  return new RegistryError('UNREACHABLE', `${what}: ${why}`, { cause: error });
}

function proxyRefusal({ method, url }: Pick<HttpRequest, 'method' | 'url'>, proxy: URL, answer: string): RegistryError {
  const hint = answer === '407' ? ', it wants a user and password in its address' : '';
  return new RegistryError('UNREACHABLE', `${nameOf(method, url, proxy)}: the proxy answered ${answer}${hint}`);
}

function nameOf(method: Method, url: URL, proxy: URL | undefined): string {
  return `${method} ${urlForPeople(url)}${proxy === undefined ? '' : ` through the proxy ${proxy.origin}`}`;
}

/** Without user and query: signed URLs carry secrets there. */
export function urlForPeople(url: URL): string {
  return `${url.protocol}//${url.host}${url.pathname}`;
}

/** The whole body. Errors: TOO_LARGE above `limit` bytes, TRUNCATED, the signal's reason. */
export async function collect(
  response: HttpResponse,
  method: Method,
  options: {
    readonly limit: number;
    readonly signal?: AbortSignal | undefined;
    readonly onBytes?: ((bytes: number) => void) | undefined;
  },
): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of response.body as AsyncIterable<Buffer>) {
      size += chunk.byteLength;
      options.onBytes?.(chunk.byteLength);
      if (size > options.limit) {
        throw new RegistryError(
          'TOO_LARGE',
          `${method} ${urlForPeople(response.url)}: the answer has more than ${options.limit} bytes`,
        );
      }
      chunks.push(chunk);
    }
  } catch (error) {
    options.signal?.throwIfAborted();
    throw bodyError(error, method, response.url);
  }
  return Buffer.concat(chunks, size);
}

/** A connection that ends inside a body is TRUNCATED rather than UNREACHABLE: the registry was there. */
export function bodyError(error: unknown, method: Method, url: URL): RegistryError {
  const mapped = transferError(error, method, url);
  if (mapped.code !== 'UNREACHABLE') return mapped;
  return new RegistryError('TRUNCATED', `${method} ${urlForPeople(url)}: the body ended early`, { cause: error });
}
