import { once } from 'node:events';
import { chmod, lstat, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import type { Server } from 'node:net';
import { dirname } from 'node:path';
import { makeDirectory } from './make-directory.ts';

/** A path that is bound here, or a socket that somebody (systemd) has bound and handed over. */
export type UnixAddress = { readonly path: string } | { readonly fd: number };

/**
 * Makes a node:net or node:http server listen on a unix socket that only its owner may use (0600). A socket that a killed process left
 * is replaced, a living one is not. Errors: EADDRINUSE when somebody answers there; errno codes.
 */
export async function listenUnix(server: Server, address: UnixAddress): Promise<void> {
  if ('path' in address) {
    await makeDirectory(dirname(address.path), 0o700);
    await clearStaleSocket(address.path);
  }
  const listening = once(server, 'listening');
  // Nobody gets in between bind(2) and chmod(2).
  const mask = process.umask(0o177);
  try {
    server.listen(address);
  } finally {
    process.umask(mask);
  }
  await listening;
  if ('path' in address) await chmod(address.path, 0o600);
}

/** Removes a socket that nobody listens on. Errors: EADDRINUSE. */
export async function clearStaleSocket(path: string): Promise<void> {
  const found = await lstat(path).catch(() => undefined);
  if (found === undefined) return;
  if (!found.isSocket() || (await answers(path))) {
    const what = found.isSocket() ? 'another process listens there' : 'there is a file that is no socket';
    throw Object.assign(new Error(`cannot listen on ${path}: ${what}`), { code: 'EADDRINUSE' });
  }
  await rm(path, { force: true });
}

async function answers(path: string): Promise<boolean> {
  const socket = connect(path);
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}
