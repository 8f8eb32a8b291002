// Sockets that go on listening while one daemon ends and the next one starts: who connects then waits instead of being refused.
import { closeSync } from 'node:fs';
import { lstat } from 'node:fs/promises';
import type { FdStore } from '../image/fd-store.ts';
import { errorMessage } from '../layer/errors.ts';
import type { Logger } from '../observe/log.ts';
import type { UnixAddress } from '../util/listen-unix.ts';
import { bindUnix } from './bind-unix.ts';

const prefix = 'listen-';

/**
 * What to listen on for `path`: the socket that an earlier daemon has bound there, or a new one, which is kept from now on; without a
 * keeper the path. Errors: as `listenUnix`.
 */
export async function keptSocket(
  fds: FdStore | undefined,
  { name, path, log }: { readonly name: string; readonly path: string; readonly log: Logger },
): Promise<UnixAddress> {
  if (fds === undefined) return { path };
  const current = await keptName(name, path);
  const found = current === undefined ? undefined : fds.take(current);
  // Of a path that was configured before, or of a file that somebody removed: nobody reaches them.
  for (const kept of fds.received.keys()) if (kept.startsWith(`${prefix}${name}-`)) await giveUp(fds, kept, log);
  if (found !== undefined) return { fd: found };
  const fd = await bindUnix(path);
  try {
    const made = await keptName(name, path);
    if (made !== undefined) await fds.store(made, fd, { dropWhenDead: false });
  } catch (error) {
    log.warn({ path, error: errorMessage(error) }, 'socket will not outlive this process');
  }
  return { fd };
}

/** Once all are taken: whoever connects to another one, as of a part that is switched off now, would wait for an answer for ever. */
export async function giveUpSockets(fds: FdStore | undefined, log: Logger): Promise<void> {
  for (const kept of fds?.received.keys() ?? [])
    if (fds !== undefined && kept.startsWith(prefix)) await giveUp(fds, kept, log);
}

/** Names the file as well, because a socket does not know whether it can still be reached. */
async function keptName(name: string, path: string): Promise<string | undefined> {
  const found = await lstat(path, { bigint: true }).catch(() => undefined);
  return found?.isSocket() === true ? `${prefix}${name}-${found.dev}-${found.ino}` : undefined;
}

async function giveUp(fds: FdStore, name: string, log: Logger): Promise<void> {
  const fd = fds.take(name);
  if (fd !== undefined) closeSync(fd);
  await fds.remove(name).catch((error: unknown) => log.warn({ name, error: errorMessage(error) }, 'still kept'));
}
