import { parseDigest } from '../oci/digest.ts';
import type { Digest } from '../oci/digest.ts';
import type { Database } from './database.ts';
import { readableRows } from './readable-rows.ts';

export interface ConnectionRow {
  readonly id: string;
  readonly owner: string;
  readonly boot: string;
  /** Identity of the file that the nodes are of; undefined for a connection of blobs. */
  readonly tree: string | undefined;
  /** INIT flags; 0 where INIT had not come. */
  readonly flags: number;
  readonly nextNode: number;
}

export type BlobMode = 'undecided' | 'plain' | 'passthrough';

export interface BlobRow {
  readonly node: number;
  readonly name: string;
  /** The slot that it is for, or the number of the device. */
  readonly place: number;
  readonly layer: Digest;
  readonly mode: BlobMode;
  /** 0 unless the mode is passthrough. */
  readonly backingId: number;
}

interface RawConnection {
  id: string;
  owner: string;
  boot: string;
  tree: string | null;
  flags: number;
  next_node: number;
}

interface RawBlob {
  node: number;
  name: string;
  place: number;
  layer: string;
  mode: BlobMode;
  backing_id: number;
}

/** What the kernel knows of the FUSE connections that outlive this process. */
export class ConnectionTable {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  put({ id, owner, boot, tree, flags, nextNode }: ConnectionRow): void {
    this.#db
      .prepare('INSERT INTO connections (id, owner, boot, tree, flags, next_node) VALUES (?, ?, ?, ?, ?, ?)')
      .run(id, owner, boot, tree ?? null, flags, nextNode);
  }

  list(): ConnectionRow[] {
    const rows = this.#db.prepare<[], RawConnection>('SELECT * FROM connections ORDER BY id').all();
    return rows.map(({ id, owner, boot, tree, flags, next_node: nextNode }) => ({
      id,
      owner,
      boot,
      tree: tree ?? undefined,
      flags,
      nextNode,
    }));
  }

  /** With its blobs. */
  delete(id: string): void {
    this.#db.prepare('DELETE FROM connections WHERE id = ?').run(id);
  }

  setFlags(id: string, flags: number): void {
    this.#db.prepare('UPDATE connections SET flags = ? WHERE id = ?').run(flags, id);
  }

  /** Before the kernel is told of it; its node is never used again. */
  addBlob(id: string, { node, name, place, layer, mode, backingId }: BlobRow): void {
    this.#db.transaction(() => {
      this.#db
        .prepare(
          'INSERT INTO blobs (connection, node, name, place, layer, mode, backing_id) VALUES (?, ?, ?, ?, ?, ?, ?)',
        )
        .run(id, node, name, place, layer, mode, backingId);
      this.#db.prepare('UPDATE connections SET next_node = max(next_node, ?) WHERE id = ?').run(node + 1, id);
    })();
  }

  setMode(id: string, node: number, { mode, backingId }: Pick<BlobRow, 'mode' | 'backingId'>): void {
    this.#db
      .prepare('UPDATE blobs SET mode = ?, backing_id = ? WHERE connection = ? AND node = ?')
      .run(mode, backingId, id, node);
  }

  removeBlob(id: string, node: number): void {
    this.#db.prepare('DELETE FROM blobs WHERE connection = ? AND node = ?').run(id, node);
  }

  blobs(id: string): BlobRow[] {
    const rows = this.#db.prepare<[string], RawBlob>('SELECT * FROM blobs WHERE connection = ? ORDER BY node').all(id);
    return readableRows(rows, ({ node, name, place, layer, mode, backing_id: backingId }) => ({
      node,
      name,
      place,
      layer: parseDigest(layer),
      mode,
      backingId,
    }));
  }
}
