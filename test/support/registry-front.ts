// An HTTP hop in front of any registry that counts what crosses it and misbehaves on demand.
import {
  Agent,
  type IncomingMessage,
  type OutgoingHttpHeaders,
  type Server,
  type ServerResponse,
  createServer,
  request as forwardRequest,
} from 'node:http';
import { once } from 'node:events';
import { createServer as createTlsServer } from 'node:https';
import type { ServerOptions } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';

export interface SeenRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingMessage['headers'];
  readonly range: string | undefined;
  status: number;
  /** Body bytes sent to the client. */
  bytes: number;
}

/** What the registry itself says. */
export interface WholeAnswer {
  readonly status: number;
  readonly headers: OutgoingHttpHeaders;
  readonly body: Buffer;
}

/** Answers instead of the registry, or calls `forward` (with other request headers) to let it answer, or spoils what `ask` brings. */
export type Fault = (
  request: IncomingMessage,
  response: ServerResponse,
  forward: (headers?: OutgoingHttpHeaders) => void,
  ask: () => Promise<WholeAnswer>,
) => void;

export interface FaultRule {
  readonly match: (request: IncomingMessage) => boolean;
  readonly fault: Fault;
}

export class RegistryFront {
  readonly #agent = new Agent({ keepAlive: true });
  readonly #server: Server;
  readonly #target: { readonly host: string; readonly port: number } | undefined;
  readonly #sockets = new Set<Socket>();
  #bytesOfClosed = 0;
  /** Of a front that is down. */
  #port = 0;
  readonly #rules = new Set<FaultRule>();
  readonly requests: SeenRequest[] = [];

  private constructor(target: { host: string; port: number } | undefined, tls: ServerOptions | undefined) {
    this.#target = target;
    const listener = (request: IncomingMessage, response: ServerResponse): void => this.#serve(request, response);
    this.#server = tls === undefined ? createServer(listener) : createTlsServer(tls, listener);
    this.#server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => {
        this.#sockets.delete(socket);
        this.#bytesOfClosed += socket.bytesWritten;
      });
    });
  }

  /** `target` is host:port of the registry; without one everything is 404. With `tls` clients speak TLS to the front. */
  static async start(target: string | undefined, tls?: ServerOptions): Promise<RegistryFront> {
    const url = target === undefined ? undefined : new URL(`http://${target}`);
    const address = url === undefined ? undefined : { host: url.hostname, port: Number(url.port) };
    const front = new RegistryFront(address, tls);
    await new Promise<void>((resolve) => front.#server.listen(0, '127.0.0.1', resolve));
    return front;
  }

  /** host:port, as it stands in a reference. */
  get host(): string {
    return `127.0.0.1:${this.#port === 0 ? (this.#server.address() as AddressInfo).port : this.#port}`;
  }

  /** Connections that clients have not closed. */
  get connections(): number {
    return this.#sockets.size;
  }

  /** Everything written to clients, heads and what was cut off included. */
  get bytesOut(): number {
    return [...this.#sockets].reduce((sum, socket) => sum + socket.bytesWritten, this.#bytesOfClosed);
  }

  /** Until the returned function is called. The rule added last wins. */
  interfere(match: FaultRule['match'], fault: Fault): () => void {
    const rule = { match, fault };
    this.#rules.add(rule);
    return () => this.#rules.delete(rule);
  }

  seen(part: string | RegExp = ''): SeenRequest[] {
    return this.requests.filter(({ path }) => (typeof part === 'string' ? path.includes(part) : part.test(path)));
  }

  /** Body bytes that went out for paths containing `part`. */
  bytes(part: string | RegExp = ''): number {
    return this.seen(part).reduce((sum, request) => sum + request.bytes, 0);
  }

  forget(): void {
    this.requests.length = 0;
  }

  /** Nobody listens any more: connections are cut and refused, until `up`. */
  async down(): Promise<void> {
    this.#port = (this.#server.address() as AddressInfo).port;
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const socket of this.#sockets) socket.resetAndDestroy();
    await closed;
  }

  /** On the same port. */
  async up(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(this.#port, '127.0.0.1', resolve));
    this.#port = 0;
  }

  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    this.#server.closeAllConnections();
    this.#agent.destroy();
    await closed;
  }

  #serve(request: IncomingMessage, response: ServerResponse): void {
    const seen: SeenRequest = {
      method: request.method ?? '',
      path: request.url ?? '',
      headers: request.headers,
      range: request.headers.range,
      status: 0,
      bytes: 0,
    };
    this.requests.push(seen);
    count(response, seen);
    const forward = (headers: OutgoingHttpHeaders = request.headers): void => this.#forward(request, response, headers);
    const rule = [...this.#rules].reverse().find((candidate) => candidate.match(request));
    if (rule === undefined) forward();
    else rule.fault(request, response, forward, () => this.#ask(request));
  }

  async #ask(request: IncomingMessage): Promise<WholeAnswer> {
    const { method, url, headers } = request;
    const upstream = forwardRequest({ ...this.#target, method, path: url, headers, agent: this.#agent });
    request.pipe(upstream);
    const [answer] = (await once(upstream, 'response')) as [IncomingMessage];
    const chunks: Buffer[] = [];
    for await (const chunk of answer as AsyncIterable<Buffer>) chunks.push(chunk);
    return { status: answer.statusCode ?? 502, headers: answer.headers, body: Buffer.concat(chunks) };
  }

  #forward(request: IncomingMessage, response: ServerResponse, headers: OutgoingHttpHeaders): void {
    const { method, url } = request;
    if (this.#target === undefined) {
      response.writeHead(404).end();
      return;
    }
    const upstream = forwardRequest({ ...this.#target, method, path: url, headers, agent: this.#agent }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
      answer.on('error', () => response.destroy());
    });
    upstream.on('error', () => response.destroy());
    response.on('close', () => upstream.destroy());
    request.pipe(upstream);
  }
}

function count(response: ServerResponse, seen: SeenRequest): void {
  const write = response.write.bind(response) as (...args: unknown[]) => boolean;
  const end = response.end.bind(response) as (...args: unknown[]) => ServerResponse;
  const add = (chunk: unknown): void => {
    seen.status = response.statusCode;
    if (typeof chunk === 'string' || chunk instanceof Uint8Array) seen.bytes += Buffer.byteLength(chunk);
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
