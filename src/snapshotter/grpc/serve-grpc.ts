// A gRPC server on a unix socket of our own making: grpc-js can neither set the socket's mode nor take one that systemd has bound.
import { createServer } from 'node:net';
import type { Socket } from 'node:net';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { listenUnix } from '../../util/listen-unix.ts';
import type { UnixAddress } from '../../util/listen-unix.ts';

/** Larger than any message of containerd or a kubelet; theirs are 16 MiB. */
const maxMessageBytes = 16 << 20;

export interface GrpcListener {
  /** No new connections; calls under way get `graceMs` to end, then their connections go. Idempotent. */
  close(graceMs?: number): Promise<void>;
}

/** `addServices` registers what is served. Errors: as `listenUnix`. */
export async function serveGrpc(address: UnixAddress, addServices: (server: Server) => void): Promise<GrpcListener> {
  const grpc = new Server({
    'grpc.max_receive_message_length': maxMessageBytes,
    'grpc.max_send_message_length': maxMessageBytes,
  });
  addServices(grpc);
  const injector = grpc.createConnectionInjector(ServerCredentials.createInsecure());
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined).on('close', () => sockets.delete(socket));
    injector.injectConnection(socket);
  });
  await listenUnix(server, address);
  let closing: Promise<void> | undefined;
  const close = async (graceMs: number): Promise<void> => {
    const closed = new Promise((resolve) => server.close(resolve));
    injector.drain(graceMs);
    const timer = setTimeout(() => {
      for (const socket of sockets) socket.destroy();
    }, graceMs);
    await closed;
    clearTimeout(timer);
    injector.destroy();
    grpc.forceShutdown();
  };
  return { close: (graceMs = 2_000) => (closing ??= close(graceMs)) };
}
