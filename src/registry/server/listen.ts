// Listening sockets of the registry and of its metrics.
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

/** `HOST:PORT`, `[::1]:PORT` or `:PORT`. Errors: TypeError. */
export function parseListen(text: string): ListenAddress {
  const match = /^(?:\[([0-9A-Fa-f:]+)\]|([^:[\]]*)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535)
    throw new TypeError(`not an address to listen on: ${JSON.stringify(text)} (expected host:port)`);
  return { host: match[1] ?? (match[2] === '' || match[2] === undefined ? '0.0.0.0' : match[2]), port };
}

/** Resolves with `host:port`, as it stands in a reference. Errors: those of listen(2). */
export async function startListening(server: Server, address: ListenAddress): Promise<string> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(address.port, address.host, () => {
      server.off('error', reject);
      resolve();
    });
  });
  const { port } = server.address() as AddressInfo;
  return `${address.host.includes(':') ? `[${address.host}]` : address.host}:${port}`;
}

/** Takes no new connections, lets `finish` end, and cuts the connections that are left. Idempotent. */
export async function stopListening(server: Server, finish: () => Promise<void> = async () => {}): Promise<void> {
  if (!server.listening) return;
  const closed = new Promise<void>((resolve) => void server.close(() => resolve()));
  await finish();
  server.closeAllConnections();
  await closed;
}
