// What the handlers of one request share: the request as a route, and answering it.
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Semaphore } from '../../util/semaphore.ts';
import { RegistryError, statusOfCode } from '../errors.ts';
import type { Registry } from '../interface.ts';
import type { RequestCount } from './server-stats.ts';

export interface Exchange {
  readonly registry: Registry;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly url: URL;
  /** Aborted when the client goes away. */
  readonly signal: AbortSignal;
  readonly options: ServingOptions;
  /** Bytes of manifests that may be read or stored at once, of all requests. */
  readonly manifestBytes: Semaphore;
  readonly count: RequestCount;
  /** The methods of the requested path. */
  readonly methods: readonly string[];
}

export interface ServingOptions {
  /** False imitates registries without it: 404 for referrers, no OCI-Subject. */
  readonly referrersApi: boolean;
  /** The most items on one page of a list. */
  readonly maxPageSize: number;
  /** The largest manifest taken. */
  readonly maxManifestBytes: number;
  /** Whether a blob whose descriptor has `urls` is answered with a redirect to the first one of http or https. */
  readonly redirects: boolean;
  /** Milliseconds in which nothing of an upload arrives, or nothing of an answer is taken, until the client is cut off. An upload can be resumed. */
  readonly idleTimeoutMs: number;
}

export type Headers = Readonly<Record<string, string | number | readonly string[]>>;

/** What is left of a refused body is read to its end up to this many bytes, so that the client sees the answer. */
const maxUnwantedBytes = 8 * 1024 * 1024;

export function respond(exchange: Exchange, status: number, headers: Headers = {}, body?: string | Uint8Array): void {
  const { request, response } = exchange;
  const bytes = typeof body === 'string' ? Buffer.from(body) : body;
  const hasLength = status !== 204 && status !== 304;
  const length = hasLength ? { 'content-length': bytes?.byteLength ?? 0 } : {};
  response.writeHead(status, { ...length, ...headers } as Record<string, string | number | string[]>);
  response.end(request.method === 'HEAD' ? undefined : bytes);
}

export function respondJson(exchange: Exchange, status: number, value: unknown, headers: Headers = {}): void {
  respond(exchange, status, { 'content-type': 'application/json', ...headers }, JSON.stringify(value));
}

/** Streams a body of `size` bytes. When it fails midway or has another length the connection is cut, so that the client cannot take it for whole. */
export async function respondStream(
  exchange: Exchange,
  status: number,
  headers: Readonly<Record<string, string | number>>,
  size: number,
  body: Readable,
): Promise<void> {
  exchange.response.writeHead(status, { ...headers, 'content-length': size });
  await pipeline(body, (bytes: AsyncIterable<Uint8Array>) => exactly(size, bytes), exchange.response);
}

/** Distribution spec, "Error Codes". A code decides its status; of what is wrong on this side (500) nothing else is told: it names files and settings. */
export function respondError(exchange: Exchange, error: unknown): void {
  const { request, response, methods } = exchange;
  if (response.headersSent || response.destroyed) {
    response.destroy();
    return;
  }
  const own = error instanceof RegistryError ? error.code : 'UNKNOWN';
  const isTold = error instanceof RegistryError && statusOfCode[own] !== 500;
  const { code, message, detail, retryAfterMs } = isTold ? error : new RegistryError(own, 'internal error');
  const status = statusOfCode[code];
  const retryAfter = retryAfterMs === undefined ? {} : { 'retry-after': Math.ceil(retryAfterMs / 1000) };
  const keep = leavesLittle(request);
  const close = keep ? {} : { connection: 'close' };
  const allow = status === 405 ? { allow: methods.filter((method) => method !== request.method).join(', ') } : {};
  const errors = [{ code, message, ...(detail === undefined ? {} : { detail }) }];
  respondJson(exchange, status, { errors }, { ...retryAfter, ...close, ...allow });
  // The next request begins where this body ends.
  if (keep) request.resume();
}

function leavesLittle(request: IncomingMessage): boolean {
  const { 'content-length': announced, expect: waits } = request.headers;
  // Who waits to be told to go on may send the body or not.
  return request.complete || (waits === undefined && announced !== undefined && Number(announced) <= maxUnwantedBytes);
}

/** Errors: TOO_LARGE. */
export async function readBody(exchange: Exchange, limit: number): Promise<Buffer> {
  const tooLarge = () => new RegistryError('TOO_LARGE', `the request has more than ${limit} bytes`);
  if (Number(exchange.request.headers['content-length'] ?? 0) > limit) throw tooLarge();
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of received(exchange)) {
    size += chunk.byteLength;
    if (size > limit) throw tooLarge();
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, size);
}

/** The request's body. A client that sends nothing for `idleTimeoutMs` is cut off. */
export async function* received(exchange: Exchange): AsyncGenerator<Buffer> {
  const { request, options, count } = exchange;
  const cutOff = () =>
    request.destroy(new RegistryError('TIMEOUT', `the client sent nothing for ${options.idleTimeoutMs} ms`));
  const timer = setTimeout(cutOff, options.idleTimeoutMs);
  try {
    // What is not read is left to the answer: it may still be read to its end.
    for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      timer.refresh();
      count.addReceived(chunk.byteLength);
      yield chunk;
    }
  } finally {
    clearTimeout(timer);
  }
}

/** Errors: UNSUPPORTED, always. */
export function methodNotAllowed(exchange: Exchange): never {
  throw new RegistryError('UNSUPPORTED', `method ${exchange.request.method ?? ''} is not supported here`);
}

/** What came after the announced end would be taken for the next answer. Errors: SIZE_INVALID. */
async function* exactly(size: number, body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let seen = 0;
  for await (const chunk of body) {
    seen += chunk.byteLength;
    if (seen > size) break;
    yield chunk;
  }
  if (seen !== size) throw new RegistryError('SIZE_INVALID', `the registry has other than the ${size} bytes announced`);
}
