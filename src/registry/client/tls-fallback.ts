import { meansNoTls } from './connection-words.ts';
import { exchange } from './http.ts';
import type { HttpConnections } from './http.ts';
import { RegistryError } from '../errors.ts';

/** TLS for a registry that may do without: its endpoint becomes plain HTTP once a TLS connection has found none spoken there. */
export class TlsFallback {
  readonly #endpoint: URL;
  readonly #connections: HttpConnections;
  #settled = false;

  /** `endpoint` is https and is changed in place: all who know it follow. */
  constructor(endpoint: URL, connections: HttpConnections) {
    this.#endpoint = endpoint;
    this.#connections = connections;
  }

  /** Errors: those of the connection when they do not mean that there is no TLS; the signal's reason. */
  async settle(signal: AbortSignal | undefined): Promise<void> {
    if (this.#settled) return;
    const url = new URL('/v2/', this.#endpoint);
    try {
      const { body } = await exchange(this.#connections, { method: 'GET', url, headers: {}, signal });
      body.on('error', () => {}).destroy();
    } catch (error) {
      if (!isPlain(error)) throw error;
      this.#endpoint.protocol = 'http:';
    }
    this.#settled = true;
  }

  /** A URL made before it was known how the registry speaks. */
  current(url: URL): URL {
    if (url.host !== this.#endpoint.host || url.protocol === this.#endpoint.protocol) return url;
    const other = new URL(url);
    other.protocol = this.#endpoint.protocol;
    return other;
  }
}

function isPlain(error: unknown): boolean {
  if (!(error instanceof RegistryError)) return false;
  const { code } = (error.cause ?? {}) as { readonly code?: unknown };
  // Refused counts too: without a port in its name the registry may be on port 80 instead.
  return meansNoTls(code) || code === 'ECONNREFUSED';
}
