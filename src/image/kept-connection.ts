import { closeSync } from 'node:fs';
import { errorMessage } from '../layer/errors.ts';
import type { Adoption, FuseServer } from '../native/fuse-server.ts';
import type { Logger } from '../observe/log.ts';
import type { BlobRow, ConnectionRow, ConnectionTable } from '../state/connections.ts';
import type { FdStore } from './fd-store.ts';

export interface ConnectionDeps {
  readonly table: ConnectionTable;
  readonly fds: FdStore;
  /** Of the machine; connections end with it. */
  readonly boot: string;
  /** The kernel is asked to send again what the process before has left unanswered. */
  readonly resend: boolean;
  readonly log: Logger;
}

export interface KeptConnectionDeps extends ConnectionDeps {
  readonly id: string;
  /** Path of the file that keeps how far requests were taken. */
  readonly taken: string;
  readonly removeTaken: () => Promise<void>;
}

/** File descriptors of one connection. */
export interface ConnectionFds {
  /** Of /dev/fuse. */
  readonly fd: number;
  /** Of a mount that is attached nowhere, where it is how new files are opened. */
  readonly mount?: number | undefined;
}

/** A file of a connection. */
export type OpenedBlob = Pick<BlobRow, 'node' | 'name' | 'place' | 'layer'>;

const fuseName = (id: string) => `fuse-${id}`;
const mountName = (id: string) => `fuse-mount-${id}`;

/** One connection, and what the next process has to know of it. Kept from `keep` on until it ends, unless its server is only left. */
export class KeptConnection {
  readonly #d: KeptConnectionDeps;
  owner = '';
  #row: ConnectionRow | undefined;
  #fds: ConnectionFds | undefined;
  #isKept = false;
  #flags = 0;

  constructor(deps: KeptConnectionDeps) {
    this.#d = deps;
  }

  static isName(name: string): boolean {
    return name.startsWith('fuse-');
  }

  get id(): string {
    return this.#d.id;
  }

  /** For the server's options. */
  get taken(): string {
    return this.#d.taken;
  }

  /** False: it has to be stopped, because nobody can adopt it. */
  get isKept(): boolean {
    return this.#isKept;
  }

  /** Of an earlier process. */
  get adoption(): Adoption {
    return { flags: this.#row?.flags ?? 0, resend: this.#d.resend };
  }

  /** Identity of the file whose nodes the kernel knows. */
  get tree(): string | undefined {
    return this.#row?.tree;
  }

  get nextNode(): number {
    return this.#row?.nextNode ?? 0;
  }

  /** Takes what the process before has left. False when the connection itself is gone. */
  receive(row: ConnectionRow): boolean {
    const { fds, id } = this.#d;
    this.owner = row.owner;
    this.#row = row;
    this.#flags = row.flags;
    this.#isKept = true;
    const fd = fds.take(fuseName(id));
    const mount = fds.take(mountName(id));
    if (fd === undefined) {
      if (mount !== undefined) closeSync(mount);
      return false;
    }
    this.#fds = { fd, mount };
    return true;
  }

  /** The caller owns them from now on. Undefined when it was not received, or they were taken. */
  takeFds(): ConnectionFds | undefined {
    const fds = this.#fds;
    this.#fds = undefined;
    return fds;
  }

  /**
   * Once its mount is there: before, a connection counts as dead. `server` serves it; when it ends without being left, so does the
   * keeping. Never rejects: without a keeper the mount is as good, until this process ends.
   */
  async keep(
    { fd, mount }: ConnectionFds,
    server: FuseServer,
    { tree, blobs = [] }: { readonly tree?: string | undefined; readonly blobs?: readonly OpenedBlob[] } = {},
  ): Promise<void> {
    const { table, fds, id, boot, log } = this.#d;
    try {
      const flags = server.stats().flags;
      this.#flags = flags;
      table.put({ id, owner: this.owner, boot, tree, flags, nextNode: 0 });
      this.#isKept = true;
      for (const blob of blobs) {
        this.addBlob(blob);
        this.blobOpened(server, blob);
      }
      if (mount !== undefined) await fds.store(mountName(id), mount, { dropWhenDead: false });
      await fds.store(fuseName(id), fd);
      this.follow(server);
    } catch (error) {
      log.warn({ owner: this.owner, error: errorMessage(error) }, 'a mount will not outlive this process');
      await this.end();
    }
  }

  /** Ends the keeping with the server, unless that is left. */
  follow(server: FuseServer): void {
    void server.closed.then(async ({ reason }) => {
      if (reason !== 'left') await this.end();
    });
  }

  /** Ends the serving: with the connection, or leaving it to the next process where it is kept. */
  async leave(server: FuseServer): Promise<void> {
    if (this.#isKept) await server.leave();
    else await server.stop();
  }

  /** Of an earlier process. */
  blobs(): BlobRow[] {
    return this.#d.table.blobs(this.#d.id);
  }

  /** Before the kernel is told of it. Errors: those of the state. */
  addBlob(blob: OpenedBlob): void {
    if (this.#isKept) this.#d.table.addBlob(this.#d.id, { ...blob, mode: 'undecided', backingId: 0 });
  }

  /** Once the kernel has opened it, and before it is seen by anybody. Errors: those of the state. */
  blobOpened(server: FuseServer, { name, node }: { readonly name: string; readonly node: number }): void {
    if (!this.#isKept) return;
    const { table, id } = this.#d;
    table.setMode(id, node, server.knownBlob(name));
    if (this.#flags !== 0) return;
    this.#flags = server.stats().flags;
    table.setFlags(id, this.#flags);
  }

  removeBlob(node: number): void {
    if (this.#isKept) this.#d.table.removeBlob(this.#d.id, node);
  }

  /** Gives everything up: without another user of its file descriptors the connection ends. Idempotent. Never rejects. */
  async end(): Promise<void> {
    const { table, fds, id, log, removeTaken } = this.#d;
    const own = this.takeFds();
    if (own !== undefined) closeSync(own.fd);
    if (own?.mount !== undefined) closeSync(own.mount);
    const wasKept = this.#isKept;
    this.#isKept = false;
    const steps = [
      ...(wasKept ? [() => fds.remove(fuseName(id)), () => fds.remove(mountName(id))] : []),
      async () => table.delete(id),
      removeTaken,
    ];
    for (const step of steps) {
      try {
        await step();
      } catch (error) {
        log.warn({ owner: this.owner, error: errorMessage(error) }, 'not everything of a connection was given up');
      }
    }
  }
}
