// An HTTP proxy on loopback: CONNECT for TLS, whole URLs for plain HTTP, with or without a password.
import { createServer, request as forward } from 'node:http';
import { connect } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';

export interface TestProxy {
  /** `127.0.0.1:34567` */
  readonly host: string;
  /** `CONNECT host:port` and `GET http://…`, in order. */
  readonly requests: readonly string[];
  /** Proxy-Authorization of the same requests. */
  readonly authorizations: readonly (string | undefined)[];
  /** Answers every request with this status instead. */
  refuse: number | undefined;
  /** Takes requests and never answers. */
  silent: boolean;
  close(): Promise<void>;
}

/** Every target name leads to loopback, so that a test can use hosts that are not. */
export async function startTestProxy(): Promise<TestProxy> {
  const requests: string[] = [];
  const authorizations: (string | undefined)[] = [];
  const sockets = new Set<Socket>();
  const state: { refuse: number | undefined; silent: boolean } = { refuse: undefined, silent: false };
  const server = createServer((request, response) => {
    requests.push(`${request.method} ${request.url}`);
    authorizations.push(request.headers['proxy-authorization']);
    if (state.silent) return;
    if (state.refuse !== undefined) {
      response.writeHead(state.refuse).end();
      return;
    }
    const { 'proxy-authorization': _, ...headers } = request.headers;
    const url = new URL(request.url ?? '');
    const target = { host: '127.0.0.1', port: url.port, path: `${url.pathname}${url.search}` };
    const onward = forward({ ...target, method: request.method, headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
    });
    onward.on('error', () => response.destroy());
    request.pipe(onward);
  });
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  server.on('connect', (request, socket: Socket) => {
    requests.push(`CONNECT ${request.url}`);
    authorizations.push(request.headers['proxy-authorization']);
    socket.on('error', () => {});
    if (state.silent) return;
    if (state.refuse !== undefined) {
      socket.end(`HTTP/1.1 ${state.refuse} No\r\n\r\n`);
      return;
    }
    const target = connect(Number(new URL(`http://${request.url}`).port), '127.0.0.1', () => {
      socket.write('HTTP/1.1 200 Connection established\r\n\r\n');
      target.pipe(socket).pipe(target);
    });
    target.on('error', () => socket.destroy());
    socket.once('close', () => target.destroy());
  });
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  return Object.assign(state, {
    host: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    authorizations,
    close: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => void server.close(resolve));
    },
  });
}
