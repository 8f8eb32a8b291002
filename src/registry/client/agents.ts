// The HTTP client's connections, directly and through proxies, with our TLS settings.
import { isIP } from 'node:net';
import type { Agent, Dispatcher, Pool, buildConnector } from 'undici';
import type { HttpOptions } from './http.ts';
import { proxyAuthorization } from './proxy.ts';
import type { ProxyChoice } from './proxy.ts';
import { secureContextOf } from './secure-context.ts';
import type { TlsOptions } from './secure-context.ts';
import type { UndiciParts } from './undici-parts.ts';

export interface AgentsOptions extends HttpOptions {
  readonly tls: TlsOptions;
  readonly proxy: ProxyChoice;
  /** For messages about the TLS settings. */
  readonly host: string;
}

/** How one request leaves. */
export interface Route {
  readonly dispatcher: Dispatcher;
  readonly origin: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  /** The proxy it goes through. */
  readonly proxy?: URL | undefined;
}

export function directRoute(dispatcher: Dispatcher, url: URL): Route {
  return { dispatcher, origin: url.origin, path: `${url.pathname}${url.search}`, headers: {} };
}

type TlsSettings = Pick<buildConnector.BuildOptions, 'timeout'> & Record<string, unknown>;

export class Agents {
  readonly #undici: UndiciParts;
  readonly #options: AgentsOptions;
  readonly #direct: Agent;
  /** To proxies that are told whole URLs: what is taken from the registry is not taken from them. */
  readonly #toProxies: Agent;
  readonly #tunnels = new Map<string, Promise<Dispatcher>>();
  /** Made with the first TLS connection: reading the system's roots takes a moment that plain HTTP does not need. */
  #tls: Promise<TlsSettings> | undefined;

  constructor(undici: UndiciParts, options: AgentsOptions) {
    this.#undici = undici;
    this.#options = options;
    this.#direct = new undici.Agent({ ...this.#timeouts(), connect: this.#connector({ toProxy: false }) });
    this.#toProxies = new undici.Agent({
      ...this.#timeouts(),
      connect: this.#connector({ toProxy: true }),
    });
  }

  /** Errors: CONFIG_INVALID. */
  async route(url: URL): Promise<Route> {
    const proxy = this.#options.proxy(url);
    if (proxy === undefined) return directRoute(this.#direct, url);
    if (url.protocol === 'https:') return { ...directRoute(await this.#tunnel(proxy), url), proxy };
    const authorization = proxyAuthorization(proxy);
    return {
      dispatcher: this.#toProxies,
      origin: proxy.origin,
      path: `${url.origin}${url.pathname}${url.search}`,
      headers: { host: url.host, ...(authorization === undefined ? {} : { 'proxy-authorization': authorization }) },
      proxy,
    };
  }

  async destroy(): Promise<void> {
    await this.#direct.destroy();
    await this.#toProxies.destroy();
    for (const tunnel of this.#tunnels.values()) await (await tunnel).destroy();
  }

  #timeouts() {
    const { headersTimeoutMs, bodyTimeoutMs, connections, allowH2 } = this.#options;
    return { headersTimeout: headersTimeoutMs, bodyTimeout: bodyTimeoutMs, connections, allowH2 };
  }

  #connector({ toProxy }: { readonly toProxy: boolean }): buildConnector.connector {
    const { connectTimeoutMs: timeout, allowH2 } = this.#options;
    const plain = this.#undici.buildConnector({ timeout });
    let secure: buildConnector.connector | undefined;
    return (options, callback) => {
      if (options.protocol !== 'https:') return plain(options, callback);
      this.#tlsSettings().then(
        (tls) => {
          secure ??= this.#undici.buildConnector({
            ...tls,
            ...(toProxy ? { rejectUnauthorized: true } : {}),
            allowH2,
          });
          // The Host header of what a proxy is sent names the registry.
          const servername = isIP(options.hostname) === 0 ? options.hostname : '';
          secure(toProxy ? { ...options, servername } : options, callback);
        },
        (error: Error) => callback(error, null),
      );
    };
  }

  #tunnel(proxy: URL): Promise<Dispatcher> {
    let tunnel = this.#tunnels.get(proxy.href);
    if (tunnel === undefined) {
      tunnel = this.#openTunnel(proxy);
      this.#tunnels.set(proxy.href, tunnel);
      tunnel.catch(() => this.#tunnels.delete(proxy.href));
    }
    return tunnel;
  }

  async #openTunnel(proxy: URL): Promise<Dispatcher> {
    const { ProxyAgent, Pool } = this.#undici;
    const tls = await this.#tlsSettings();
    const token = proxyAuthorization(proxy);
    return new ProxyAgent({
      ...this.#timeouts(),
      uri: proxy.origin,
      ...(token === undefined ? {} : { token }),
      requestTls: { ...tls, allowH2: this.#options.allowH2 },
      proxyTls: { ...tls, rejectUnauthorized: true },
      // A proxy that takes the CONNECT and never answers must not hold a request for longer than a silent registry would.
      clientFactory: (origin, options) =>
        withEndingConnect(new Pool(origin, { ...options, headersTimeout: this.#options.headersTimeoutMs })),
    });
  }

  #tlsSettings(): Promise<TlsSettings> {
    if (this.#tls === undefined) {
      this.#tls = this.#readTls();
      // A file that is wrong may be put right.
      this.#tls.catch(() => (this.#tls = undefined));
    }
    return this.#tls;
  }

  async #readTls(): Promise<TlsSettings> {
    const { tls, host, connectTimeoutMs: timeout } = this.#options;
    const secureContext = await secureContextOf(tls, host);
    return {
      timeout,
      rejectUnauthorized: tls.skipVerify !== true,
      ...(secureContext === undefined ? {} : { secureContext }),
    };
  }
}

/** A proxy that hangs up on CONNECT looks to the HTTP client like an idle connection that ended, and it would connect anew without end. */
function withEndingConnect(pool: Pool): Pool {
  const connect = pool.connect.bind(pool);
  const ending = async (options: Dispatcher.ConnectOptions) => {
    try {
      return await connect(options);
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== 'UND_ERR_SOCKET') throw cause;
      throw Object.assign(new Error('the proxy hung up', { cause }), { code: 'ECONNRESET' });
    }
  };
  return Object.assign(pool, { connect: ending });
}
