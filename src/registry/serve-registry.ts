import { createServer as createHttpServer } from 'node:http';
import type { ServerOptions } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { Server as TlsServer } from 'node:tls';
import { maxManifestBytes } from '../oci/manifest.ts';
import type { Registry } from './interface.ts';
import type { ServingOptions } from './server/exchange.ts';
import { HtpasswdFile } from './server/htpasswd.ts';
import { parseListen, startListening, stopListening } from './server/listen.ts';
import { RequestHandler } from './server/request-handler.ts';
import { ServerMetrics, serveMetrics } from './server/server-metrics.ts';
import { ServerStats } from './server/server-stats.ts';
import type { RequestRecord } from './server/server-stats.ts';
import { followTlsFiles, loadTls } from './server/tls-files.ts';
import type { ServerTlsOptions } from './server/tls-files.ts';
import { warningHeader } from './server/warning-header.ts';

export interface ServeOptions extends Partial<ServingOptions> {
  /** `HOST:PORT`, `[::1]:PORT` or `:PORT`; port 0 takes a free one. Default `127.0.0.1:0`. */
  readonly listen?: string | undefined;
  /** HTTPS instead of HTTP. Files are read again when they change. */
  readonly tls?: ServerTlsOptions | undefined;
  /** How often files are looked at for changes, in ms; default 5 000. */
  readonly tlsCheckEveryMs?: number | undefined;
  /** A file of users with bcrypt hashes (`htpasswd -B`), one of whom every request must be from; read again when it changes. */
  readonly htpasswd?: string | undefined;
  /** Address of a second listener that answers GET /metrics over plain HTTP, in Prometheus' text format. */
  readonly metrics?: string | undefined;
  /** A text for people that is sent with every answer (distribution spec, "Warnings"). */
  readonly warning?: string | undefined;
  /**
   * What a proxy stands for: the registry of the host that a client names with `ns`, undefined for a host it has nothing of. Requests without `ns` go
   * to the registry served. Without this option `ns` is ignored (distribution spec, "Registry Proxying").
   */
  readonly namespaces?: ((host: string) => Registry | undefined) | undefined;
  /** Requests under way at once; more are answered with 429 and Retry-After. Default 1 000. */
  readonly maxRequests?: number | undefined;
  /** Connections at once; more are closed. Default 10 000. */
  readonly maxConnections?: number | undefined;
  /** Every request when it has ended. */
  readonly onRequest?: ((record: RequestRecord) => void) | undefined;
  /** Failures that the client is only told "internal error" of, and files that cannot be read again. */
  readonly onError?: ((error: unknown) => void) | undefined;
}

export interface CloseOptions {
  /** How long requests that are under way may take to end; default 0. */
  readonly graceMs?: number | undefined;
}

export interface RegistryServer {
  /** `http://127.0.0.1:34567` */
  readonly url: string;
  /** For references: `127.0.0.1:34567`. */
  readonly host: string;
  readonly port: number;
  /** `http://127.0.0.1:34568/metrics`, when there are metrics. */
  readonly metricsUrl: string | undefined;
  readonly stats: ServerStats;
  /** Cuts the connections that are left. The registry works on none of their requests then, if it heeds its signals. Idempotent. */
  close(options?: CloseOptions): Promise<void>;
}

const defaults: ServingOptions = {
  referrersApi: true,
  maxPageSize: 10_000,
  maxManifestBytes,
  redirects: true,
  idleTimeoutMs: 60_000,
};

const httpOptions: ServerOptions = {
  maxHeaderSize: 16 * 1024,
  // Uploads of any length are fine; a connection that never sends its headers is not, nor is one whose peer is gone.
  requestTimeout: 0,
  headersTimeout: 30_000,
  keepAliveTimeout: 30_000,
  keepAlive: true,
  noDelay: true,
  // What arrives while a store writes is handed to it in one piece.
  highWaterMark: 512 * 1024,
};

/**
 * Serves any registry over HTTP, as the OCI distribution spec 1.1 says. Errors: TypeError for an address or a warning that is none; CREDENTIALS_INVALID
 * for certificates and password files; those of listen(2) and of the file system.
 */
export async function serveRegistry(registry: Registry, options: ServeOptions = {}): Promise<RegistryServer> {
  const owned: (() => Promise<void> | void)[] = [];
  const closeOwned = async () => {
    for (const close of owned.splice(0).reverse()) await close();
  };
  try {
    return await start(registry, options, owned, closeOwned);
  } catch (error) {
    await closeOwned();
    throw error;
  }
}

/** What has to be closed is added to `owned` as it comes to be; `closeOwned` closes it, the last one first. */
async function start(
  registry: Registry,
  options: ServeOptions,
  owned: (() => Promise<void> | void)[],
  closeOwned: () => Promise<void>,
): Promise<RegistryServer> {
  const { onError = () => {} } = options;
  const address = parseListen(options.listen ?? '127.0.0.1:0');
  const headers = { 'docker-distribution-api-version': 'registry/2.0', ...warningHeader(options.warning) };
  const tls = options.tls === undefined ? undefined : await loadTls(options.tls);
  const users = options.htpasswd === undefined ? undefined : await HtpasswdFile.open(options.htpasswd, onError);
  if (users !== undefined) owned.push(() => users.close());
  const metrics = options.metrics === undefined ? undefined : await ServerMetrics.create();
  const metricsServer =
    metrics === undefined || options.metrics === undefined ? undefined : await serveMetrics(metrics, options.metrics);
  if (metricsServer !== undefined) owned.push(() => metricsServer.close());
  const stats = new ServerStats();
  const serving = { ...defaults, ...withoutUndefined(options) };
  const handler = new RequestHandler(registry, {
    serving,
    stats,
    metrics,
    authenticator: users,
    maxRequests: options.maxRequests ?? 1_000,
    headers,
    namespaces: options.namespaces,
    onRequest: options.onRequest,
    onError,
  });
  const server = tls === undefined ? createHttpServer(httpOptions) : createHttpsServer({ ...httpOptions, ...tls });
  server.timeout = serving.idleTimeoutMs;
  server.maxConnections = options.maxConnections ?? 10_000;
  server.on('request', (request, response) => handler.handle(request, response, false));
  server.on('checkContinue', (request, response) => handler.handle(request, response, true));
  const host = await startListening(server, address);
  let graceMs = 0;
  let closed: Promise<void> | undefined;
  owned.push(async () => {
    await stopListening(server, () => handler.finish(graceMs));
    await handler.idle();
  });
  if (options.tls !== undefined && server instanceof TlsServer)
    owned.push(followTlsFiles(server, options.tls, options.tlsCheckEveryMs ?? 5_000, onError));
  return {
    url: `${tls === undefined ? 'http' : 'https'}://${host}`,
    host,
    port: (server.address() as AddressInfo).port,
    metricsUrl: metricsServer?.url,
    stats,
    close: async (closing = {}) => {
      graceMs = closing.graceMs ?? 0;
      closed ??= closeOwned();
      await closed;
    },
  };
}

function withoutUndefined(options: ServeOptions): Partial<ServingOptions> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}
