// The file descriptors that outlive the daemon: they are with the keeper, which gives them to the next one.
import { closeSync } from 'node:fs';
import { copyFd } from '../native/fd-messages.ts';
import { Semaphore } from '../util/semaphore.ts';
import { DaemonError } from './errors.ts';
import { KeeperConnection } from './keeper-connection.ts';
import type { SentFd } from './keeper-connection.ts';

export interface FdKeeperOptions {
  /** Path of the keeper's socket. */
  readonly socket: string;
  /** Default as for any request. */
  readonly timeoutMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface StoreOptions {
  /** Dropped as soon as it is of no use to anybody, as a FUSE connection whose mount is gone; else kept until it is removed. Default true. */
  readonly dropWhenDead?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

interface KeptCopy {
  readonly fd: number;
  readonly dropWhenDead: boolean;
}

/** As systemd has them, and not empty. */
const namePattern = /^[ -9;-~]{1,255}$/;

export class FdKeeper {
  readonly #connection: KeeperConnection;
  readonly #received: Map<string, number>;
  /** Own copies of what is kept, for a keeper that is started anew. */
  readonly #kept = new Map<string, KeptCopy>();
  readonly #turn = new Semaphore(1);

  private constructor(connection: KeeperConnection, received: readonly SentFd[]) {
    this.#connection = connection;
    this.#received = new Map(received.map(({ name, fd }) => [name, fd]));
    for (const { name, fd, dropWhenDead } of received) {
      const copy = copied(fd);
      if (copy !== undefined) this.#kept.set(name, { fd: copy, dropWhenDead });
    }
  }

  /** Connected, with all that is kept. Undefined where no keeper listens. Errors: ERR_KEEPER_*, errno codes; the signal's reason. */
  static async connect({ socket, timeoutMs, signal }: FdKeeperOptions): Promise<FdKeeper | undefined> {
    const connection = KeeperConnection.open(socket);
    if (connection === undefined) return undefined;
    try {
      const { fds } = await connection.ask([['PEEL', 'fds']], { timeoutMs, signal });
      return new FdKeeper(connection, fds);
    } catch (error) {
      connection.close();
      throw error;
    }
  }

  /** What was kept when this daemon came, close-on-exec. An fd belongs to who takes it (`take`); `close` closes the others. */
  get received(): ReadonlyMap<string, number> {
    return this.#received;
  }

  /** From now on the caller closes it; undefined when there is none of that name. What the keeper has is another of the same file. */
  take(name: string): number | undefined {
    const fd = this.#received.get(name);
    this.#received.delete(name);
    return fd;
  }

  /**
   * Resolves when it is kept. The fd stays the caller's; what was kept by that name is given up.
   * Errors: ERR_KEEPER_REFUSED when it is dead already or there are too many, ERR_KEEPER_ANSWER; TypeError for a name that cannot be one.
   */
  async store(name: string, fd: number, { dropWhenDead = true, signal }: StoreOptions = {}): Promise<void> {
    checkName(name);
    // The caller may close his while this waits.
    const kept = { fd: copyFd(fd), dropWhenDead };
    try {
      await this.#turn.run(
        async () => {
          await this.#put(name, kept, signal);
          this.#forget(name);
          this.#kept.set(name, kept);
        },
        { signal },
      );
    } finally {
      if (this.#kept.get(name) !== kept) closeSync(kept.fd);
    }
  }

  /**
   * Gives everything that is kept to the keeper that is there by now: one that was started anew has nothing. Resolves with the names of what
   * it refused. Errors: ERR_KEEPER_ANSWER, and not all of it is kept then.
   */
  async storeAgain(): Promise<readonly string[]> {
    const refused: string[] = [];
    for (const name of this.#kept.keys())
      await this.#turn.run(async () => {
        const kept = this.#kept.get(name);
        if (kept === undefined) return;
        await this.#put(name, kept).catch((error: unknown) => {
          if (!(error instanceof DaemonError) || error.code !== 'ERR_KEEPER_REFUSED') throw error;
          refused.push(name);
        });
      });
    return refused;
  }

  /** Nothing where nothing is kept by that name. Errors as of `store`. */
  async remove(name: string, { signal }: Pick<StoreOptions, 'signal'> = {}): Promise<void> {
    checkName(name);
    const request = [
      ['FDSTOREREMOVE', '1'],
      ['FDNAME', name],
    ] as const;
    await this.#turn.run(
      async () => {
        this.#forget(name);
        await this.#connection.ask(request, { signal });
      },
      { signal },
    );
  }

  /** What is kept stays kept. Idempotent. */
  close(): void {
    this.#connection.close();
    for (const fd of this.#received.values()) closeSync(fd);
    this.#received.clear();
    for (const name of this.#kept.keys()) this.#forget(name);
  }

  async #put(name: string, { fd, dropWhenDead }: KeptCopy, signal?: AbortSignal): Promise<void> {
    const poll = dropWhenDead ? [] : [['FDPOLL', '0'] as const];
    await this.#connection.ask([['FDSTORE', '1'], ['FDNAME', name], ...poll], { fd, signal });
  }

  #forget(name: string): void {
    const kept = this.#kept.get(name);
    this.#kept.delete(name);
    if (kept !== undefined) closeSync(kept.fd);
  }
}

/** Undefined where no fd is free: what came has to be served all the same. */
function copied(fd: number): number | undefined {
  try {
    return copyFd(fd);
  } catch {
    return undefined;
  }
}

function checkName(name: string): void {
  if (!namePattern.test(name)) throw new TypeError(`not a name of a kept file descriptor: ${JSON.stringify(name)}`);
}
