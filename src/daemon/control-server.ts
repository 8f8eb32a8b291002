// The control API: HTTP and JSON on a unix socket that only the daemon's user may open.
import { createServer } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { errorCode, errorMessage } from '../layer/errors.ts';
import type { Logger } from '../observe/log.ts';
import type { UnixAddress } from '../util/listen-unix.ts';
import { acceptConnections } from './accept-connections.ts';
import { routes, sendJson } from './control-routes.ts';
import type { ControlBackend, Exchange } from './control-routes.ts';
import { DaemonError } from './errors.ts';

export interface ControlServer {
  /** Requests under way are ended. Idempotent. */
  close(): Promise<void>;
}

const maxBodyBytes = 64 << 10;
const maxConnections = 128;
/** ms in which a whole request must have arrived. */
const requestTimeoutMs = 10_000;

const statuses: Readonly<Record<string, number>> = {
  ERR_DAEMON_REQUEST: 400,
  ERR_DAEMON_NESTED: 409,
  ERR_DAEMON_ELSEWHERE: 409,
  ERR_DAEMON_UNSUPPORTED: 501,
  ERR_DAEMON_STOPPING: 503,
  ERR_MOUNT_UNKNOWN: 404,
  ERR_MOUNT_TARGET: 409,
  ERR_MOUNT_BUSY: 409,
  ERR_MOUNT_PERMISSION: 403,
  // What the machine lacks, it may have a moment later.
  EMFILE: 503,
  ENFILE: 503,
  ENOMEM: 503,
  ENOBUFS: 503,
};

/** Errors: as `acceptConnections`. */
export async function serveControl(address: UnixAddress, backend: ControlBackend, log: Logger): Promise<ControlServer> {
  const stopping = new AbortController();
  const server = createServer(
    { requestTimeout: requestTimeoutMs, headersTimeout: requestTimeoutMs, maxHeaderSize: 16 << 10 },
    (request, response) => {
      answer(backend, request, response, stopping.signal).catch((error: unknown) => {
        const status = refuse(response, error);
        if (status >= 500) log.warn({ path: pathOf(request), error: errorMessage(error) }, 'control request failed');
      });
    },
  );
  const connections = await acceptConnections(server, address, { most: maxConnections });
  let closing: Promise<void> | undefined;
  const close = async () => {
    connections.stop();
    stopping.abort(new DaemonError('ERR_DAEMON_STOPPING', 'the daemon is stopping'));
    server.close();
    // Those that were just told so may read it.
    setTimeout(() => server.closeAllConnections(), 500).unref();
    await connections.ended();
  };
  return { close: () => (closing ??= close()) };
}

async function answer(
  backend: ControlBackend,
  request: IncomingMessage,
  response: ServerResponse<IncomingMessage>,
  stopping: AbortSignal,
): Promise<void> {
  const path = pathOf(request);
  const methods = Object.hasOwn(routes, path) ? routes[path] : undefined;
  if (methods === undefined) return sendError(response, 404, 'ERR_NOT_FOUND', `there is no ${path}`);
  const method = request.method ?? '';
  const route = Object.hasOwn(methods, method) ? methods[method] : undefined;
  if (route === undefined) {
    response.setHeader('allow', Object.keys(methods).join(', '));
    return sendError(response, 405, 'ERR_METHOD', `${path} takes ${Object.keys(methods).join(', ')}`);
  }
  const gone = new AbortController();
  const stop = () => gone.abort(stopping.reason);
  stopping.addEventListener('abort', stop, { once: true });
  response.once('close', () => {
    stopping.removeEventListener('abort', stop);
    if (!gone.signal.aborted) gone.abort(new Error('the client went away'));
  });
  if (stopping.aborted) stop();
  const exchange: Exchange = {
    response,
    query: new URL(request.url ?? '/', 'http://peel').searchParams,
    body: async () => await readJson(request),
    signal: gone.signal,
  };
  await route(backend, exchange);
}

/** Errors: ERR_DAEMON_REQUEST. */
async function readJson(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > maxBodyBytes)
      throw new DaemonError('ERR_DAEMON_REQUEST', `the body has more than ${maxBodyBytes} bytes`);
    chunks.push(chunk);
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString('utf8')) as unknown;
  } catch (cause) {
    // What the parser says repeats the text, which may hold a secret.
    throw new DaemonError('ERR_DAEMON_REQUEST', 'the body is not JSON', { cause });
  }
}

/** Returns the status that the error stands for. */
function refuse(response: ServerResponse, error: unknown): number {
  const code = errorCode(error) ?? 'ERR_UNEXPECTED';
  const status = statuses[code] ?? 500;
  if (response.headersSent || response.destroyed) response.destroy();
  else sendError(response, status, code, errorMessage(error));
  return status;
}

function sendError(response: ServerResponse, status: number, code: string, message: string): void {
  // What is left of the body is not read.
  response.setHeader('connection', 'close');
  sendJson(response, { error: { code, message } }, status);
}

/** Without the query; bounded, for people. */
function pathOf(request: IncomingMessage): string {
  return (request.url ?? '').split('?')[0]?.slice(0, 200) ?? '';
}
