// How connections come to a server of HTTP that must answer when the process may open no more files: Node's own way would hang up on them.
import { closeSync, rmSync } from 'node:fs';
import type { Server } from 'node:http';
import { Socket } from 'node:net';
import { Acceptor } from '../native/acceptor.ts';
import type { UnixAddress } from '../util/listen-unix.ts';
import { bindUnix } from './bind-unix.ts';

export interface AcceptedConnections {
  /** No more of them come; a socket that was bound here is removed. Idempotent. */
  stop(): void;
  /** Resolves when all that came have ended. */
  ended(): Promise<void>;
}

/** Makes a server answer on a unix socket, and end what comes while it has `most` connections. Errors: as `bindUnix`. */
export async function acceptConnections(
  server: Server,
  address: UnixAddress,
  { most }: { readonly most: number },
): Promise<AcceptedConnections> {
  const open = new Map<Socket, Promise<void>>();
  const onConnection = (fd: number) => {
    const socket = socketOf(fd);
    if (socket === undefined) return;
    if (open.size >= most) return void socket.destroy();
    const closed = new Promise<void>((resolve) => void socket.once('close', () => resolve()));
    open.set(socket, closed);
    void closed.then(() => open.delete(socket));
    server.emit('connection', socket);
  };
  const acceptor = Acceptor.start('fd' in address ? address.fd : await bindUnix(address.path), onConnection);
  // It begins to look after requests that do not arrive in time.
  server.emit('listening');
  let isStopped = false;
  return {
    stop: () => {
      if (isStopped) return;
      isStopped = true;
      acceptor.stop();
      if ('path' in address) rmSync(address.path, { force: true });
    },
    ended: async () => void (await Promise.all(open.values())),
  };
}

function socketOf(fd: number): Socket | undefined {
  try {
    return new Socket({ fd, readable: true, writable: true });
  } catch {
    closeSync(fd);
    return undefined;
  }
}
