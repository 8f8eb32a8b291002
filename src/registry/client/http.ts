// One HTTP exchange, without any policy: no redirects, no retries, no authorization.
import { Readable } from 'node:stream';
import type { Dispatcher } from 'undici';
import { RegistryError } from '../errors.ts';

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
  /** The longest silence within a body. */
  readonly bodyTimeoutMs: number;
  /** Connections per host. */
  readonly connections: number;
}

export const defaultHttpOptions: HttpOptions = {
  connectTimeoutMs: 10_000,
  headersTimeoutMs: 30_000,
  bodyTimeoutMs: 30_000,
  connections: 64,
};

const maxInformational = 100;

/**
 * The connections of one client. The code that makes them takes a tenth of a second to load, which a command that finds everything
 * on the node does not spend: it is loaded with the first request.
 */
export class HttpConnections {
  readonly #options: HttpOptions;
  readonly #own: boolean;
  #dispatcher: Promise<Dispatcher> | undefined;

  /** `given`: somebody else's connections, to be used instead of own ones and not closed. */
  constructor(options: HttpOptions, given?: Dispatcher) {
    this.#options = options;
    this.#dispatcher = given === undefined ? undefined : Promise.resolve(given);
    this.#own = given === undefined;
  }

  dispatcher(): Promise<Dispatcher> {
    this.#dispatcher ??= createAgent(this.#options);
    return this.#dispatcher;
  }

  /** Cuts what is under way. */
  async destroy(): Promise<void> {
    if (this.#own) await (await this.#dispatcher)?.destroy();
  }
}

async function createAgent(options: HttpOptions): Promise<Dispatcher> {
  const { Agent } = await import('undici');
  return new Agent({
    connect: { timeout: options.connectTimeoutMs },
    headersTimeout: options.headersTimeoutMs,
    bodyTimeout: options.bodyTimeoutMs,
    connections: options.connections,
    pipelining: 1,
  });
}

/** Errors: UNREACHABLE, TIMEOUT, SIZE_INVALID (the request body had another size), the signal's reason, what the request body failed with. */
export async function exchange(connections: HttpConnections, message: HttpRequest): Promise<HttpResponse> {
  const { method, url, signal, body } = message;
  const source = body?.open();
  let sourceError: Error | undefined;
  if (source instanceof Readable) source.once('error', (error) => (sourceError ??= error));
  const headers = { ...message.headers, ...(body === undefined ? {} : { 'content-length': String(body.size) }) };
  let informational = 0;
  try {
    const { request } = await import('undici');
    const answer = await request(url, {
      dispatcher: await connections.dispatcher(),
      method,
      headers,
      // Not the source itself: undici destroys what it sends with an error of its own, which would look like one of the source.
      body: source instanceof Readable ? Readable.from(source, { objectMode: false }) : (source ?? null),
      ...(signal === undefined ? {} : { signal }),
      // Each puts the time limit off, so that without an end of them there would be no limit.
      onInfo: () => {
        informational += 1;
        if (informational > maxInformational)
          throw new RegistryError('RESPONSE_INVALID', tooManyInformational(message));
      },
    });
    const values = (name: string): readonly string[] => {
      const value = answer.headers[name];
      return value === undefined ? [] : typeof value === 'string' ? [value] : value;
    };
    return { status: answer.statusCode, url, body: answer.body, header: (name) => values(name)[0], headers: values };
  } catch (error) {
    if (source instanceof Readable) source.destroy();
    signal?.throwIfAborted();
    // The connection breaks too when the source does; the source is what went wrong.
    if (sourceError !== undefined) throw sourceError;
    throw transferError(error, method, url);
  }
}

function tooManyInformational({ method, url }: HttpRequest): string {
  return `${method} ${urlForPeople(url)}: more than ${maxInformational} informational answers before the answer`;
}

/** What a failure of the connection or of a body under way means. */
export function transferError(error: unknown, method: Method, url: URL): RegistryError {
  if (error instanceof RegistryError) return error;
  const what = `${method} ${urlForPeople(url)}`;
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
    return new RegistryError('RESPONSE_INVALID', `${what}: the answer is not http`, { cause: error });
  }
  const why = typeof code === 'string' ? wordsFor(code) : error instanceof Error ? error.message : 'connection failed';
  return new RegistryError('UNREACHABLE', `${what}: ${why}`, { cause: error });
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

const words: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connection refused',
  ECONNRESET: 'connection reset',
  ENOTFOUND: 'no such host',
  EAI_AGAIN: 'the name of the host cannot be resolved',
  EHOSTUNREACH: 'no route to the host',
  ENETUNREACH: 'no network',
  EPROTO: 'no TLS spoken there',
  ERR_SSL_WRONG_VERSION_NUMBER: 'no TLS spoken there',
};

function wordsFor(code: string): string {
  const known = words[code];
  return known === undefined ? code : `${known} (${code})`;
}
