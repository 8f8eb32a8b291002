// The file descriptors that outlive the daemon: they are with the keeper, which gives them to the next one.
import { closeSync } from 'node:fs';
import { KeeperConnection } from './keeper-connection.ts';

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

/** As systemd has them, and not empty. */
const namePattern = /^[ -9;-~]{1,255}$/;

export class FdKeeper {
  readonly #connection: KeeperConnection;
  readonly #received: Map<string, number>;

  private constructor(connection: KeeperConnection, received: Map<string, number>) {
    this.#connection = connection;
    this.#received = received;
  }

  /** Connected, with all that is kept. Undefined where no keeper listens. Errors: ERR_KEEPER_*, errno codes; the signal's reason. */
  static async connect({ socket, timeoutMs, signal }: FdKeeperOptions): Promise<FdKeeper | undefined> {
    const connection = KeeperConnection.open(socket);
    if (connection === undefined) return undefined;
    try {
      const { fds } = await connection.ask([['PEEL', 'fds']], { timeoutMs, signal });
      return new FdKeeper(connection, new Map(fds.map(({ name, fd }) => [name, fd])));
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
    const poll = dropWhenDead ? [] : [['FDPOLL', '0'] as const];
    await this.#connection.ask([['FDSTORE', '1'], ['FDNAME', name], ...poll], { fd, signal });
  }

  /** Nothing where nothing is kept by that name. Errors as of `store`. */
  async remove(name: string, { signal }: Pick<StoreOptions, 'signal'> = {}): Promise<void> {
    checkName(name);
    await this.#connection.ask(
      [
        ['FDSTOREREMOVE', '1'],
        ['FDNAME', name],
      ],
      { signal },
    );
  }

  /** What is kept stays kept. Idempotent. */
  close(): void {
    this.#connection.close();
    for (const fd of this.#received.values()) closeSync(fd);
    this.#received.clear();
  }
}

function checkName(name: string): void {
  if (!namePattern.test(name)) throw new TypeError(`not a name of a kept file descriptor: ${JSON.stringify(name)}`);
}
