// One request from its head to the end of its answer: counted, let in or refused, and handed to the handler of its path.
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { isDigest } from '../../oci/digest.ts';
import { Deferred } from '../../util/deferred.ts';
import { Semaphore } from '../../util/semaphore.ts';
import { RegistryError } from '../errors.ts';
import type { Registry } from '../interface.ts';
import { handleBlob } from './blob-handler.ts';
import { countBody } from './count-body.ts';
import { methodNotAllowed, respond, respondError, respondJson } from './exchange.ts';
import type { Exchange, ServingOptions } from './exchange.ts';
import type { Authenticator } from './htpasswd.ts';
import { handleCatalog, handleReferrers, handleTags } from './list-handler.ts';
import { handleManifest } from './manifest-handler.ts';
import { methodsOf, parseRoute } from './route.ts';
import type { Route } from './route.ts';
import type { ServerMetrics } from './server-metrics.ts';
import type { RequestRecord, ServerStats } from './server-stats.ts';
import { handleUpload, handleUploads } from './upload-handler.ts';

/** Manifests are held in memory while they arrive and are stored; those that would be more wait. */
const maxManifestBytesAtOnce = 256 * 1024 * 1024;

/** For a registry that does not heed its signal. */
const maxWorkMs = 5_000;

export interface RequestHandlerOptions {
  readonly serving: ServingOptions;
  readonly stats: ServerStats;
  readonly metrics: ServerMetrics | undefined;
  readonly authenticator: Authenticator | undefined;
  /** More requests at once than these are answered with 429. */
  readonly maxRequests: number;
  /** Headers of every answer. */
  readonly headers: Readonly<Record<string, string>>;
  /** The registry that a request with `ns` is meant for. */
  readonly namespaces: ((host: string) => Registry | undefined) | undefined;
  readonly onRequest: ((record: RequestRecord) => void) | undefined;
  readonly onError: (error: unknown) => void;
}

export class RequestHandler {
  readonly #registry: Registry;
  readonly #options: RequestHandlerOptions;
  readonly #manifestBytes = new Semaphore(maxManifestBytesAtOnce);
  readonly #running = new Set<Promise<void>>();
  #inFlight = 0;
  /** Set when the server ends: settled when no request is under way. */
  #ending: Deferred<void> | undefined;

  constructor(registry: Registry, options: RequestHandlerOptions) {
    this.#registry = registry;
    this.#options = options;
  }

  /** `expectsContinue`: the client sends its body when it is told to (RFC 9110 section 10.1.1). */
  handle(request: IncomingMessage, response: ServerResponse, expectsContinue: boolean): void {
    const running = this.#handle(request, response, expectsContinue);
    this.#running.add(running);
    void running.finally(() => this.#running.delete(running));
  }

  /** Resolves when the registry works on no request any more, which it may do for a while after the connection was cut. */
  async idle(): Promise<void> {
    if (this.#running.size > 0) await noLongerThan(maxWorkMs, Promise.allSettled(this.#running));
  }

  async #handle(request: IncomingMessage, response: ServerResponse, expectsContinue: boolean): Promise<void> {
    const gone = new AbortController();
    // Also a whole URL, as it is sent to proxies (RFC 9112 section 3.2.2).
    const target = request.url?.replace(/^https?:\/\/[^/?#]*/i, '') ?? '';
    const url = new URL(`http://registry${target.startsWith('/') ? target : '/'}`);
    const route = routeOf(url);
    const exchange = this.#begin(request, response, url, route, gone);
    try {
      if (this.#inFlight > this.#options.maxRequests)
        throw new RegistryError('TOOMANYREQUESTS', 'too many requests are under way', { retryAfterMs: 1_000 });
      await this.#checkUser(exchange);
      if (route instanceof RegistryError) throw route;
      const registry = this.#registryFor(exchange);
      if (expectsContinue) response.writeContinue();
      await dispatch({ ...exchange, registry }, route);
    } catch (error) {
      if (!gone.signal.aborted) this.#options.onError(error);
      respondError(exchange, error);
    }
  }

  /** Resolves when nothing is under way any more, or after `graceMs`. Connections are not used again after what is under way on them. */
  async finish(graceMs: number): Promise<void> {
    this.#ending = new Deferred<void>();
    if (this.#inFlight === 0 || graceMs === 0) return;
    await noLongerThan(graceMs, this.#ending.promise);
  }

  #begin(
    request: IncomingMessage,
    response: ServerResponse,
    url: URL,
    route: Route | undefined | RegistryError,
    gone: AbortController,
  ): Exchange {
    const { stats, metrics, serving, headers, onRequest } = this.#options;
    const known = route instanceof RegistryError ? undefined : route;
    const asked = askedFor(request, url, known);
    const count = stats.begin(asked);
    metrics?.begin(asked);
    this.#inFlight += 1;
    countBody(response, count);
    onceOver(request, response, () => {
      if (!response.writableFinished) gone.abort(new DOMException('the client went away', 'AbortError'));
      const record = count.end();
      metrics?.end(record);
      this.#inFlight -= 1;
      if (this.#inFlight === 0) this.#ending?.resolve();
      onRequest?.(record);
    });
    response.on('timeout', (socket: Socket) => {
      // The client takes nothing of its answer. All else that is slow is slow here, or has a limit of its own.
      if (socket.writableLength > 0) socket.destroy();
      else socket.setTimeout(serving.idleTimeoutMs);
    });
    for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
    if (this.#ending !== undefined) response.setHeader('connection', 'close');
    const methods = methodsOf(known?.kind);
    return {
      registry: this.#registry,
      request,
      response,
      url,
      signal: gone.signal,
      options: serving,
      manifestBytes: this.#manifestBytes,
      count,
      methods,
    };
  }

  async #checkUser({ request, response, url }: Exchange): Promise<void> {
    const { authenticator } = this.#options;
    if (authenticator === undefined) return;
    if ((await authenticator.userOf(request.headers.authorization)) !== undefined) return;
    response.setHeader('www-authenticate', 'Basic realm="registry", charset="UTF-8"');
    throw new RegistryError('UNAUTHORIZED', `${url.pathname.slice(0, 300)} needs a user and password`);
  }

  /** Distribution spec, "Registry Proxying". Errors: NAME_UNKNOWN for a host that this server does not stand for. */
  #registryFor({ url, response }: Exchange): Registry {
    const { namespaces } = this.#options;
    const host = namespaces === undefined ? null : url.searchParams.get('ns');
    if (namespaces === undefined || host === null) return this.#registry;
    const registry = namespaces(host);
    if (registry === undefined)
      throw new RegistryError('NAME_UNKNOWN', `this registry has nothing of ${JSON.stringify(host.slice(0, 300))}`);
    response.setHeader('oci-namespace', host);
    return registry;
  }
}

/** Also of an answer that waits behind another one on its connection: when that ends, Node closes only the first of them. */
function onceOver(request: IncomingMessage, response: ServerResponse, done: () => void): void {
  const { socket } = request;
  const end = () => {
    socket.off('close', end);
    response.off('close', end);
    done();
  };
  response.once('close', end);
  if (response.socket !== null) return;
  // As many as a client may send ahead.
  socket.setMaxListeners(0);
  socket.once('close', end);
}

async function noLongerThan(ms: number, end: Promise<unknown>): Promise<void> {
  const enough = new AbortController();
  const timer = delay(ms, undefined, { signal: enough.signal }).catch(() => {});
  await Promise.race([end, timer]);
  enough.abort();
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
      if (!exchange.methods.includes(exchange.request.method ?? '')) methodNotAllowed(exchange);
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

function askedFor(request: IncomingMessage, url: URL, route: Route | undefined) {
  const text = route?.kind === 'blob' ? route.digest : route?.kind === 'manifest' ? route.name : '';
  return {
    method: request.method ?? '',
    url: `${url.pathname}${url.search}`,
    kind: route?.kind ?? 'unknown',
    digest: isDigest(text) ? text : undefined,
    range: request.headers.range,
  };
}
