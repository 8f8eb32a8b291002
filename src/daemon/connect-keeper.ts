import { setTimeout as delay } from 'node:timers/promises';
import { errorMessage } from '../layer/errors.ts';
import type { Logger } from '../observe/log.ts';
import { DaemonError } from './errors.ts';
import { FdKeeper } from './fd-keeper.ts';

export interface ConnectKeeperOptions {
  /** Path of the keeper's socket. */
  readonly socket: string;
  readonly log: Logger;
  readonly signal?: AbortSignal | undefined;
  /** Of each try; default as for any request. */
  readonly timeoutMs?: number | undefined;
}

/** A keeper that becomes another program answers nobody for up to ten seconds. */
const tries = 3;
const pauseMs = 500;

/**
 * Undefined where no keeper listens: then what is served ends with this process. One that is there and does not answer holds what containers
 * read through: without it they would wait for ever, and the same layers would be mounted beside them. Errors: ERR_DAEMON_START; the signal's
 * reason.
 */
export async function connectKeeper({
  socket,
  log,
  signal,
  timeoutMs,
}: ConnectKeeperOptions): Promise<FdKeeper | undefined> {
  for (let round = 1; ; round += 1) {
    try {
      return await FdKeeper.connect({ socket, signal, timeoutMs });
    } catch (cause) {
      signal?.throwIfAborted();
      if (round === tries)
        throw new DaemonError(
          'ERR_DAEMON_START',
          `the keeper on ${socket} does not answer (${errorMessage(cause)}): it may hold what containers read through, so ` +
            'that nothing is begun without it; end its process to give all of that up',
          { cause },
        );
      log.warn({ error: errorMessage(cause) }, 'keeper does not answer, asking again');
      await delay(pauseMs, undefined, { signal });
    }
  }
}
