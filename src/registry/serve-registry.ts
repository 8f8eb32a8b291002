import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { isDigest } from '../oci/digest.ts';
import { maxManifestBytes } from '../oci/manifest.ts';
import { RegistryError } from './errors.ts';
import type { Registry } from './interface.ts';
import { handleBlob } from './server/blob-handler.ts';
import { respond, respondError, respondJson } from './server/exchange.ts';
import type { Exchange, ServingOptions } from './server/exchange.ts';
import { handleCatalog, handleReferrers, handleTags } from './server/list-handler.ts';
import { handleManifest } from './server/manifest-handler.ts';
import { parseRoute } from './server/route.ts';
import type { Route } from './server/route.ts';
import { ServerStats } from './server/server-stats.ts';
import type { RequestCount, RequestRecord } from './server/server-stats.ts';
import { handleUpload, handleUploads } from './server/upload-handler.ts';

export interface ServeOptions extends Partial<ServingOptions> {
  /** `HOST:PORT`, `[::1]:PORT` or `:PORT`; port 0 takes a free one. Default `127.0.0.1:0`. */
  readonly listen?: string | undefined;
  /** Every request when it has ended. */
  readonly onRequest?: ((record: RequestRecord) => void) | undefined;
  /** Failures that the client is only told "internal error" of. */
  readonly onError?: ((error: unknown) => void) | undefined;
}

export interface RegistryServer {
  /** `http://127.0.0.1:34567` */
  readonly url: string;
  /** For references: `127.0.0.1:34567`. */
  readonly host: string;
  readonly port: number;
  readonly stats: ServerStats;
  /** Cuts the connections that are left. Idempotent. */
  close(): Promise<void>;
}

const defaults: ServingOptions = { referrersApi: true, maxPageSize: 10_000, maxManifestBytes };

/** Serves any registry over plain HTTP, as the OCI distribution spec 1.1 says. Errors: TypeError for `listen`; those of listen(2). */
export async function serveRegistry(registry: Registry, options: ServeOptions = {}): Promise<RegistryServer> {
  const address = parseListen(options.listen ?? '127.0.0.1:0');
  const stats = new ServerStats();
  const serving = { ...defaults, ...withoutUndefined(options) };
  const server = createServer((request, response) => void serve(registry, request, response, serving, stats, options));
  // Uploads of any length are fine; a connection that never sends its headers is not.
  server.requestTimeout = 0;
  server.headersTimeout = 30_000;
  server.keepAliveTimeout = 30_000;
  await listening(server, address);
  const { port } = server.address() as AddressInfo;
  const host = `${address.host.includes(':') ? `[${address.host}]` : address.host}:${port}`;
  return { url: `http://${host}`, host, port, stats, close: () => closeServer(server) };
}

async function serve(
  registry: Registry,
  request: IncomingMessage,
  response: ServerResponse,
  serving: ServingOptions,
  stats: ServerStats,
  options: ServeOptions,
): Promise<void> {
  const gone = new AbortController();
  const url = new URL(`http://registry${request.url?.startsWith('/') === true ? request.url : '/'}`);
  const exchange: Exchange = { registry, request, response, url, signal: gone.signal, options: serving };
  const route = routeOf(url);
  const count = stats.begin(askedFor(exchange, route instanceof RegistryError ? undefined : route));
  countBody(response, count);
  response.once('close', () => {
    if (!response.writableFinished) gone.abort(new DOMException('the client went away', 'AbortError'));
    const record = count.end();
    options.onRequest?.(record);
  });
  response.setHeader('docker-distribution-api-version', 'registry/2.0');
  try {
    if (route instanceof RegistryError) throw route;
    await dispatch(exchange, route);
  } catch (error) {
    if (!gone.signal.aborted) options.onError?.(error);
    respondError(exchange, error);
  }
}

function routeOf(url: URL): Route | undefined | RegistryError {
  try {
    return parseRoute(url.pathname);
  } catch (error) {
    if (error instanceof RegistryError) return error;
    throw error;
  }
}

async function dispatch(exchange: Exchange, route: Route | undefined): Promise<void> {
  switch (route?.kind) {
    case 'ping':
      respondJson(exchange, 200, {});
      return;
    case 'catalog':
      await handleCatalog(exchange);
      return;
    case 'tags':
      await handleTags(exchange, route.repository);
      return;
    case 'referrers':
      await handleReferrers(exchange, route.repository, route.digest);
      return;
    case 'manifest':
      await handleManifest(exchange, route.repository, route.name);
      return;
    case 'blob':
      await handleBlob(exchange, route.repository, route.digest);
      return;
    case 'uploads':
      await handleUploads(exchange, route.repository);
      return;
    case 'upload':
      await handleUpload(exchange, route.repository, route.id);
      return;
    default:
      respond(exchange, 404, { 'content-type': 'text/plain' }, 'page not found\n');
  }
}

function askedFor(exchange: Exchange, route: Route | undefined) {
  const { request, url } = exchange;
  const text = route?.kind === 'blob' ? route.digest : route?.kind === 'manifest' ? route.name : '';
  return {
    method: request.method ?? '',
    url: `${url.pathname}${url.search}`,
    kind: route?.kind ?? 'unknown',
    digest: isDigest(text) ? text : undefined,
    range: request.headers.range,
  };
}

/** Counts what is handed to the connection, whoever writes it. */
function countBody(response: ServerResponse, count: RequestCount): void {
  const write = response.write.bind(response) as (...args: unknown[]) => boolean;
  const end = response.end.bind(response) as (...args: unknown[]) => ServerResponse;
  const add = (chunk: unknown) => {
    count.setStatus(response.statusCode);
    if (chunk instanceof Uint8Array) count.addBytes(chunk.byteLength);
  };
  response.write = (...args: unknown[]) => {
    add(args[0]);
    return write(...args);
  };
  response.end = (...args: unknown[]) => {
    add(args[0]);
    return end(...args);
  };
}

function parseListen(text: string): { host: string; port: number } {
  const match = /^(?:\[([0-9A-Fa-f:]+)\]|([^:[\]]*)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535)
    throw new TypeError(`not an address to listen on: ${JSON.stringify(text)} (expected host:port)`);
  return { host: match[1] ?? (match[2] === '' || match[2] === undefined ? '0.0.0.0' : match[2]), port };
}

function listening(server: Server, address: { host: string; port: number }): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(address.port, address.host, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

async function closeServer(server: Server): Promise<void> {
  if (!server.listening) return;
  await new Promise<void>((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}

function withoutUndefined(options: ServeOptions): Partial<ServingOptions> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}
