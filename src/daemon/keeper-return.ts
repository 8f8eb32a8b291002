// A keeper that is started anew has nothing. It is given everything again at once, so that whichever of the two processes ends next, the other
// one still has it.
import { type FSWatcher, existsSync, watch } from 'node:fs';
import { basename, dirname } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { errorMessage } from '../layer/errors.ts';
import type { Logger } from '../observe/log.ts';
import type { FdKeeper } from './fd-keeper.ts';

export interface KeeperReturnOptions {
  /** Path of the keeper's socket, which every keeper makes anew. */
  readonly socket: string;
  readonly fds: FdKeeper;
  readonly log: Logger;
}

/** A socket is there before its owner listens. */
const [retryMs, maxTries] = [20, 100];

export class KeeperReturn {
  readonly #o: KeeperReturnOptions;
  readonly #watcher: FSWatcher | undefined;
  #isClosed = false;
  /** Something happened to the socket that nobody has looked at yet. */
  #isDue = false;
  #looking: Promise<void> | undefined;

  /** Until `close`. Never throws: without it a keeper that is started anew has nothing until the next daemon comes. */
  constructor(options: KeeperReturnOptions) {
    this.#o = options;
    const { socket, log } = options;
    const onError = (error: unknown) => log.warn({ error: errorMessage(error) }, 'the keeper is not watched');
    try {
      this.#watcher = watch(dirname(socket), { persistent: false }, (_event, file) => {
        if (file === basename(socket)) this.#look();
      }).on('error', onError);
    } catch (error) {
      onError(error);
    }
  }

  /** Idempotent. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#watcher?.close();
    await this.#looking;
  }

  #look(): void {
    this.#isDue = true;
    this.#looking ??= this.#storeAgain().finally(() => (this.#looking = undefined));
  }

  async #storeAgain(): Promise<void> {
    const { socket, fds, log } = this.#o;
    for (let tries = 0; this.#isDue && !this.#isClosed; tries += 1) {
      this.#isDue = false;
      // Another look follows when the next one makes its socket.
      if (!existsSync(socket)) continue;
      try {
        const refused = await fds.storeAgain();
        log.warn({ refused }, 'there is a new keeper: it was given everything again');
      } catch (error) {
        if (tries < maxTries) this.#isDue = true;
        else log.error({ error: errorMessage(error) }, 'there is a new keeper, and it does not keep everything');
        await delay(retryMs);
      }
    }
  }
}
