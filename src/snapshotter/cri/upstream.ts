import { connect as connectHttp2 } from 'node:http2';
import type { ClientHttp2Session } from 'node:http2';
import { connect } from 'node:net';

const connectTimeoutMs = 5_000;

/** One connection to a gRPC server on a unix socket, made when it is needed and made anew when it is lost. */
export class Upstream {
  readonly path: string;
  #session: Promise<ClientHttp2Session> | undefined;
  #closed = false;

  constructor(path: string) {
    this.path = path;
  }

  /** Errors: those of connect(2); ETIMEDOUT when nobody accepts. */
  session(): Promise<ClientHttp2Session> {
    if (this.#closed) return Promise.reject(new Error('closed'));
    this.#session ??= this.#open();
    return this.#session;
  }

  /** Cuts what is under way. Idempotent. */
  async close(): Promise<void> {
    this.#closed = true;
    const session = await this.#session?.catch(() => undefined);
    session?.destroy();
  }

  #open(): Promise<ClientHttp2Session> {
    const opening = new Promise<ClientHttp2Session>((resolve, reject) => {
      const socket = connect(this.path);
      const session = connectHttp2('http://localhost', { createConnection: () => socket });
      const timer = setTimeout(() => {
        session.destroy(Object.assign(new Error('nobody accepts the connection'), { code: 'ETIMEDOUT' }));
      }, connectTimeoutMs);
      const forget = () => {
        if (this.#session === opening) this.#session = undefined;
      };
      session.once('goaway', forget);
      session.once('close', () => {
        clearTimeout(timer);
        forget();
        reject(Object.assign(new Error('the connection was closed'), { code: 'ECONNRESET' }));
      });
      session.on('error', reject);
      // Not 'connect', which comes before the other side has said anything: what accepts may still be no gRPC server.
      session.once('remoteSettings', () => {
        clearTimeout(timer);
        resolve(session);
      });
    });
    // Who waits for it is told; without anybody it is no error of the process.
    opening.catch(() => undefined);
    return opening;
  }
}
