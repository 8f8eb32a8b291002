import { randomBytes } from 'node:crypto';
import { Leases } from '../gen/containerd/services/leases/v1/leases_pb.ts';
import type { CallOptions, ContainerdSession } from './session.ts';

/** Keeps what is made under it from containerd's garbage collector. */
export class LeaseService {
  readonly #session: ContainerdSession;

  constructor(session: ContainerdSession) {
    this.#session = session;
  }

  /** Returns its id. It ends by itself after `lifetimeMs`, should nobody be left to delete it. */
  async create(lifetimeMs: number, options?: CallOptions): Promise<string> {
    const id = uniqueName();
    // RFC 3339 in whole seconds, as containerd's own clients write it.
    const expiry = new Date(Date.now() + lifetimeMs).toISOString().replace(/\.\d+Z$/, 'Z');
    const labels = { 'containerd.io/gc.expire': expiry };
    await this.#session.call(Leases.method.create, `create the lease ${id}`, { id, labels }, options);
    return id;
  }

  async delete(id: string, options?: CallOptions): Promise<void> {
    await this.#session.call(Leases.method.delete, `delete the lease ${id}`, { id }, options);
  }
}

/** `<nanoseconds>-<random>`, as containerd's clients name what nobody has to find again. */
export function uniqueName(): string {
  return `${process.hrtime.bigint() % 1_000_000_000n}-${randomBytes(6).toString('base64url')}`;
}
