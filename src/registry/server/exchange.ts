// What the handlers of one request share: the request as a route, and answering it.
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { RegistryError, statusOfCode } from '../errors.ts';
import type { Registry } from '../interface.ts';

export interface Exchange {
  readonly registry: Registry;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly url: URL;
  /** Aborted when the client goes away. */
  readonly signal: AbortSignal;
  readonly options: ServingOptions;
}

export interface ServingOptions {
  /** False imitates registries without it: 404 for referrers, no OCI-Subject. */
  readonly referrersApi: boolean;
  /** The most items on one page of a list. */
  readonly maxPageSize: number;
  /** The largest manifest taken. */
  readonly maxManifestBytes: number;
}

export type Headers = Readonly<Record<string, string | number>>;

export function respond(exchange: Exchange, status: number, headers: Headers = {}, body?: string | Uint8Array): void {
  const { request, response } = exchange;
  const bytes = typeof body === 'string' ? Buffer.from(body) : body;
  const length =
    bytes === undefined ? (status === 204 ? {} : { 'content-length': 0 }) : { 'content-length': bytes.byteLength };
  response.writeHead(status, { ...length, ...headers });
  response.end(request.method === 'HEAD' ? undefined : bytes);
}

export function respondJson(exchange: Exchange, status: number, value: unknown, headers: Headers = {}): void {
  respond(exchange, status, { 'content-type': 'application/json', ...headers }, JSON.stringify(value));
}

/** Streams a body whose length is in the headers. When it fails midway the connection is cut, so that the client cannot take it for whole. */
export async function respondStream(
  exchange: Exchange,
  status: number,
  headers: Headers,
  body: Readable,
): Promise<void> {
  exchange.response.writeHead(status, headers);
  await pipeline(body, exchange.response);
}

/** Distribution spec, "Error Codes". A code decides its status; other errors are told nothing about. */
export function respondError(exchange: Exchange, error: unknown): void {
  const { response } = exchange;
  if (response.headersSent || response.destroyed) {
    response.destroy();
    return;
  }
  const known = error instanceof RegistryError ? error : new RegistryError('UNKNOWN', 'internal error');
  const { code, message, detail, retryAfterMs } = known;
  const retryAfter = retryAfterMs === undefined ? {} : { 'retry-after': Math.ceil(retryAfterMs / 1000) };
  // What is left of a request body that nobody wants is not waited for.
  const close = exchange.request.complete ? {} : { connection: 'close' };
  const errors = [{ code, message, ...(detail === undefined ? {} : { detail }) }];
  respondJson(exchange, statusOfCode[code], { errors }, { ...retryAfter, ...close });
}

/** Errors: TOO_LARGE. */
export async function readBody(exchange: Exchange, limit: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of exchange.request as AsyncIterable<Buffer>) {
    size += chunk.byteLength;
    if (size > limit) throw new RegistryError('TOO_LARGE', `the request has more than ${limit} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, size);
}

export function methodNotAllowed(exchange: Exchange, ...allowed: readonly string[]): void {
  const errors = [{ code: 'UNSUPPORTED', message: `method ${exchange.request.method ?? ''} is not supported here` }];
  respondJson(exchange, 405, { errors }, { allow: allowed.join(', ') });
}
