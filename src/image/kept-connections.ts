// FUSE connections that outlive this process: their file descriptors are kept by another one, and what the kernel knows of them is in
// the state. The next process takes both and goes on where this one ended, and whoever reads does not notice.
import { randomBytes } from 'node:crypto';
import { closeSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { errorMessage } from '../layer/errors.ts';
import { KeptConnection } from './kept-connection.ts';
import type { ConnectionDeps } from './kept-connection.ts';

export interface KeptConnectionsDeps extends ConnectionDeps {
  readonly runDir: string;
}

export class KeptConnections {
  readonly #d: KeptConnectionsDeps;
  readonly #found = new Map<string, KeptConnection>();

  private constructor(deps: KeptConnectionsDeps) {
    this.#d = deps;
  }

  /** What does not match is given up: a connection without its file descriptor has ended, and one without its row cannot be served. */
  static async open(deps: KeptConnectionsDeps): Promise<KeptConnections> {
    const { table, fds, log } = deps;
    const kept = new KeptConnections(deps);
    await mkdir(kept.#dir, { recursive: true, mode: 0o700 });
    for (const row of table.list()) {
      const connection = kept.#connection(row.id);
      if (row.boot === deps.boot && connection.receive(row)) kept.#found.set(row.id, connection);
      else {
        if (row.boot === deps.boot) log.info({ owner: row.owner }, 'a connection has ended while nobody served it');
        await connection.end();
      }
    }
    for (const name of fds.received.keys()) {
      if (!KeptConnection.isName(name)) continue;
      log.warn({ name }, 'nothing is recorded of a connection that was kept: it is given up');
      const fd = fds.take(name);
      if (fd !== undefined) closeSync(fd);
      await fds.remove(name).catch((error: unknown) => log.warn({ name, error: errorMessage(error) }, 'still kept'));
    }
    return kept;
  }

  /** Those of an earlier process, each of which is given once. */
  take(owner: string): KeptConnection[] {
    const taken = [...this.#found.values()].filter((connection) => connection.owner === owner);
    for (const { id } of taken) this.#found.delete(id);
    return taken;
  }

  /** For a connection that is about to be made: it is kept from `keep` on. */
  create(owner: string): KeptConnection {
    const connection = this.#connection(randomBytes(8).toString('hex'));
    connection.owner = owner;
    return connection;
  }

  /** What nobody took has no mount any more. Never rejects. */
  async endOthers(mayEnd: (owner: string) => boolean = () => true): Promise<void> {
    for (const connection of [...this.#found.values()].filter(({ owner }) => mayEnd(owner))) {
      this.#found.delete(connection.id);
      this.#d.log.info(
        { owner: connection.owner },
        'a connection that was kept is of no use to anybody: it is given up',
      );
      await connection.end();
    }
  }

  get #dir(): string {
    return join(this.#d.runDir, 'fuse');
  }

  #connection(id: string): KeptConnection {
    const taken = join(this.#dir, id);
    return new KeptConnection({ ...this.#d, id, taken, removeTaken: async () => await rm(taken, { force: true }) });
  }
}
