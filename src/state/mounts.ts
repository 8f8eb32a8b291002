import { parseDigest } from '../oci/digest.ts';
import type { Digest } from '../oci/digest.ts';
import type { Database } from './database.ts';
import { readableRows } from './readable-rows.ts';

export interface MountRow {
  readonly id: string;
  /** Absolute path. */
  readonly dir: string;
  readonly reference: string;
  readonly digest: Digest;
  readonly transport: string;
  /** Why this transport. */
  readonly why: string;
  readonly writable: boolean;
  readonly upper: string | undefined;
  readonly pid: number;
  /** Start time of `pid` as /proc says it. */
  readonly pidStart: string;
  readonly boot: string;
  readonly log: string | undefined;
  /** ms since the epoch. */
  readonly mountedAt: number;
  /** Served by the daemon, which makes it again when it starts. */
  readonly daemon: boolean;
  /** What is likely to be read next is fetched before it is. */
  readonly readAhead: boolean;
  /** All of the image is fetched in the end. */
  readonly fill: boolean;
  /** Why the daemon could not make it again. */
  readonly error: string | undefined;
  /** Each once, in no particular order. */
  readonly layers: readonly Digest[];
}

interface RawRow {
  id: string;
  dir: string;
  reference: string;
  digest: string;
  transport: string;
  why: string;
  writable: number;
  upper: string | null;
  pid: number;
  pid_start: string;
  boot: string;
  log: string | null;
  mounted_at: number;
  daemon: number;
  read_ahead: number;
  fill: number;
  error: string | null;
}

/** What is mounted, by which process, and which layers that pins. */
export class MountTable {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** In the place of an earlier one with its id. */
  put(row: MountRow): void {
    const mount = this.#db.prepare(
      `INSERT INTO mounts (id, dir, reference, digest, transport, why, writable, upper, pid, pid_start, boot, log, mounted_at, daemon, read_ahead, fill, error)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    );
    const pin = this.#db.prepare('INSERT OR IGNORE INTO mount_layers (mount, layer) VALUES (?, ?)');
    this.#db.transaction(() => {
      this.delete(row.id);
      mount.run(
        row.id,
        row.dir,
        row.reference,
        row.digest,
        row.transport,
        row.why,
        row.writable ? 1 : 0,
        row.upper ?? null,
        row.pid,
        row.pidStart,
        row.boot,
        row.log ?? null,
        row.mountedAt,
        row.daemon ? 1 : 0,
        row.readAhead ? 1 : 0,
        row.fill ? 1 : 0,
        row.error ?? null,
      );
      for (const layer of row.layers) pin.run(row.id, layer);
    })();
  }

  delete(id: string): boolean {
    return this.#db.prepare('DELETE FROM mounts WHERE id = ?').run(id).changes > 0;
  }

  get(id: string): MountRow | undefined {
    const row = this.#db.prepare<[string], RawRow>('SELECT * FROM mounts WHERE id = ?').get(id);
    return row === undefined ? undefined : this.#fromRaw(row);
  }

  /** That the daemon could not make it again. */
  fail(id: string, error: string): void {
    this.#db.prepare('UPDATE mounts SET error = ? WHERE id = ?').run(error, id);
  }

  /** Oldest first; several when somebody mounted over a mount, or a killed process left its row. */
  at(dir: string): MountRow[] {
    const rows = this.#db
      .prepare<[string], RawRow>('SELECT * FROM mounts WHERE dir = ? ORDER BY mounted_at, id')
      .all(dir);
    return readableRows(rows, (row) => this.#fromRaw(row));
  }

  /** By directory. */
  list(): MountRow[] {
    const rows = this.#db.prepare<[], RawRow>('SELECT * FROM mounts ORDER BY dir, mounted_at, id').all();
    return readableRows(rows, (row) => this.#fromRaw(row));
  }

  #fromRaw(row: RawRow): MountRow {
    const layers = this.#db
      .prepare<[string], { layer: string }>('SELECT layer FROM mount_layers WHERE mount = ? ORDER BY layer')
      .all(row.id);
    return {
      id: row.id,
      dir: row.dir,
      reference: row.reference,
      digest: parseDigest(row.digest),
      transport: row.transport,
      why: row.why,
      writable: row.writable !== 0,
      upper: row.upper ?? undefined,
      pid: row.pid,
      pidStart: row.pid_start,
      boot: row.boot,
      log: row.log ?? undefined,
      mountedAt: row.mounted_at,
      daemon: row.daemon !== 0,
      readAhead: row.read_ahead !== 0,
      fill: row.fill !== 0,
      error: row.error ?? undefined,
      layers: layers.map(({ layer }) => parseDigest(layer)),
    };
  }
}
