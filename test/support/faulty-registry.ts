// A real HTTP server in front of a real registry, through which a test breaks what it wants to see broken.
import { createServer, request as httpRequest } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { ServerOptions } from 'node:https';
import type { AddressInfo } from 'node:net';

/** Answers (or cuts) the request itself and returns true, or returns false to have it passed on unharmed. */
export type Fault = (request: IncomingMessage, response: ServerResponse) => boolean | Promise<boolean>;

export interface FaultyRegistry {
  readonly host: string;
  readonly url: string;
  /** What was asked, in order: `GET /v2/...`. */
  readonly requests: readonly string[];
  /** The headers of the same requests. */
  readonly headers: readonly IncomingMessage['headers'][];
  fault: Fault;
  close(): Promise<void>;
}

export async function startFaultyRegistry(
  upstream: string | undefined,
  fault: Fault = () => false,
  tls?: ServerOptions,
): Promise<FaultyRegistry> {
  const requests: string[] = [];
  const headers: IncomingMessage['headers'][] = [];
  const state = { fault };
  const handle = async (request: IncomingMessage, response: ServerResponse) => {
    requests.push(`${request.method} ${request.url}`);
    headers.push(request.headers);
    if (await state.fault(request, response)) return;
    if (upstream === undefined) {
      response.writeHead(404).end();
      return;
    }
    const forwarded = httpRequest(
      `${upstream}${request.url}`,
      { method: request.method, headers: request.headers },
      (answer) => {
        response.writeHead(answer.statusCode ?? 500, answer.headers);
        answer.pipe(response);
      },
    );
    forwarded.on('error', () => response.destroy());
    request.pipe(forwarded);
  };
  const listener = (request: IncomingMessage, response: ServerResponse) =>
    void handle(request, response).catch(() => response.destroy());
  const server = tls === undefined ? createServer(listener) : createTlsServer(tls, listener);
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    host,
    url: `${tls === undefined ? 'http' : 'https'}://${host}`,
    requests,
    headers,
    get fault() {
      return state.fault;
    },
    set fault(value) {
      state.fault = value;
    },
    close: async () => {
      await new Promise((resolve) => {
        server.close(resolve);
        server.closeAllConnections();
      });
    },
  };
}

/** Applies `fault` to the first `times` requests that match `pattern` (`GET /v2/.../blobs/`), and to no others. */
export function firstTimes(times: number, pattern: RegExp, fault: Fault): Fault {
  let left = times;
  return async (request, response) => {
    if (left === 0 || !pattern.test(`${request.method} ${request.url}`)) return false;
    left -= 1;
    return await fault(request, response);
  };
}
