import { dirname } from 'node:path';
import { listenUnixSocket } from '../native/sys.ts';
import { clearStaleSocket } from '../util/listen-unix.ts';
import { makeDirectory } from '../util/make-directory.ts';

/**
 * A listening unix socket that only its owner may use (0600), as an fd. One that a killed process left is replaced, a living one is not.
 * Errors: EADDRINUSE when somebody answers there; errno codes.
 */
export async function bindUnix(path: string): Promise<number> {
  await makeDirectory(dirname(path), 0o700);
  await clearStaleSocket(path);
  return listenUnixSocket(path);
}
