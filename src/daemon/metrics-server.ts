// GET /metrics for Prometheus, over plain HTTP on a port or a unix socket, and nothing else.
import { createServer } from 'node:http';
import type { Server } from 'node:http';
import { errorMessage } from '../layer/errors.ts';
import type { DaemonMetrics } from '../observe/metrics.ts';
import { parseListen, startListening, stopListening } from '../registry/server/listen.ts';
import { listenUnix } from '../util/listen-unix.ts';
import { DaemonError } from './errors.ts';

export interface MetricsServer {
  /** As it was given, with the port that was taken for port 0. */
  readonly address: string;
  close(): Promise<void>;
}

const unixPrefix = 'unix:';

/** `address`: HOST:PORT, :PORT or unix:/PATH. Errors: ERR_DAEMON_START naming the address. */
export async function serveDaemonMetrics(metrics: DaemonMetrics, address: string): Promise<MetricsServer> {
  const server = createServer({ requestTimeout: 10_000 }, (request, response) => {
    request.resume();
    if (request.url?.split('?')[0] !== '/metrics' || (request.method !== 'GET' && request.method !== 'HEAD')) {
      response.writeHead(404, { 'content-type': 'text/plain' }).end('metrics are at /metrics\n');
      return;
    }
    metrics.text().then(
      (text) => response.writeHead(200, { 'content-type': metrics.contentType }).end(text),
      () => response.destroy(),
    );
  });
  server.maxConnections = 64;
  try {
    const bound = await listen(server, address);
    return { address: bound, close: async () => await stopListening(server) };
  } catch (cause) {
    throw new DaemonError('ERR_DAEMON_START', `metrics.address ${address}: ${errorMessage(cause)}`, { cause });
  }
}

async function listen(server: Server, address: string): Promise<string> {
  if (!address.startsWith(unixPrefix)) return await startListening(server, parseListen(address));
  const path = address.slice(unixPrefix.length);
  if (!path.startsWith('/')) throw new TypeError('expected an absolute path after unix:');
  await listenUnix(server, { path });
  return address;
}
