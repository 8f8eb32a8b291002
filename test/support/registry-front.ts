// An HTTP hop in front of any registry that counts what crosses it and misbehaves on demand.
import {
  Agent,
  type IncomingMessage,
  type OutgoingHttpHeaders,
  type ServerResponse,
  createServer,
  request as forwardRequest,
} from 'node:http';
import type { AddressInfo } from 'node:net';

export interface SeenRequest {
  readonly method: string;
  readonly path: string;
  readonly range: string | undefined;
  status: number;
  /** Body bytes sent to the client. */
  bytes: number;
}

/** Answers instead of the registry, or calls `forward` (with other request headers) to let it answer. */
export type Fault = (
  request: IncomingMessage,
  response: ServerResponse,
  forward: (headers?: OutgoingHttpHeaders) => void,
) => void;

export interface FaultRule {
  readonly match: (request: IncomingMessage) => boolean;
  readonly fault: Fault;
}

export class RegistryFront {
  readonly #agent = new Agent({ keepAlive: true });
  readonly #server = createServer((request, response) => this.#serve(request, response));
  readonly #target: { readonly host: string; readonly port: number };
  readonly #rules = new Set<FaultRule>();
  readonly requests: SeenRequest[] = [];

  private constructor(target: { host: string; port: number }) {
    this.#target = target;
  }

  /** `target` is host:port of the registry. */
  static async start(target: string): Promise<RegistryFront> {
    const url = new URL(`http://${target}`);
    const front = new RegistryFront({ host: url.hostname, port: Number(url.port) });
    await new Promise<void>((resolve) => front.#server.listen(0, '127.0.0.1', resolve));
    return front;
  }

  /** host:port, as it stands in a reference. */
  get host(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
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
      range: request.headers.range,
      status: 0,
      bytes: 0,
    };
    this.requests.push(seen);
    count(response, seen);
    const forward = (headers: OutgoingHttpHeaders = request.headers): void => this.#forward(request, response, headers);
    const rule = [...this.#rules].reverse().find((candidate) => candidate.match(request));
    if (rule === undefined) forward();
    else rule.fault(request, response, forward);
  }

  #forward(request: IncomingMessage, response: ServerResponse, headers: OutgoingHttpHeaders): void {
    const { method, url } = request;
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
