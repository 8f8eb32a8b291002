import { parseDigest } from '../oci/digest.ts';
import type { Digest } from '../oci/digest.ts';
import type { Database } from './database.ts';
import { durably } from './durably.ts';
import { readableRows } from './readable-rows.ts';

export type SnapshotKind = 'view' | 'active' | 'committed';

export interface SnapshotRow {
  /** Never used again. */
  readonly id: number;
  readonly key: string;
  readonly parent: { readonly id: number; readonly key: string } | undefined;
  readonly kind: SnapshotKind;
  /** Of the layer that it shows; undefined: it has a directory of its own. */
  readonly slot: number | undefined;
  /** Reference it was pulled by, where that was told. */
  readonly image: string | undefined;
  readonly layer: Digest | undefined;
  /** Why the layer is not shown by a slot, whoever unpacked it; undefined when it is, or is no layer of an image. */
  readonly reason: string | undefined;
  /** By peel, in its own directory. */
  readonly unpacked: boolean;
  /** The boot in which its directory was written; undefined once that is known to be on disk. */
  readonly unsynced: string | undefined;
  /** Bytes on disk of a committed directory, and inodes; undefined until they are measured. */
  readonly size: number | undefined;
  readonly inodes: number | undefined;
  /** ms since the epoch. */
  readonly createdAt: number;
  readonly updatedAt: number;
  readonly labels: Readonly<Record<string, string>>;
}

export interface NewSnapshot
  extends Partial<Pick<SnapshotRow, 'slot' | 'image' | 'layer' | 'reason' | 'unpacked' | 'unsynced'>>,
    Pick<SnapshotRow, 'key' | 'kind' | 'labels'> {
  /** Its `id`. */
  readonly parent?: number | undefined;
}

/** A snapshot below another one, or the other one itself. */
export type ChainLink = Pick<SnapshotRow, 'id' | 'slot' | 'layer' | 'unsynced'>;

/** A layer that has a directory instead of a slot. */
export type LayerDirectory = Pick<SnapshotRow, 'key' | 'kind' | 'image' | 'layer' | 'reason'>;

interface RawRow {
  id: number;
  key: string;
  parent: number | null;
  parent_key: string | null;
  kind: string;
  slot: number | null;
  image: string | null;
  layer: string | null;
  reason: string | null;
  unpacked: number;
  unsynced: string | null;
  size: number | null;
  inodes: number | null;
  created_at: number;
  updated_at: number;
}

const columns = `SELECT s.*, p.key AS parent_key FROM snapshots s LEFT JOIN snapshots p ON p.id = s.parent`;

/** The snapshots that containerd was told of. What has to hold between them is checked by the caller, within `durably`. */
export class SnapshotTable {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** One transaction that is on disk when this returns. */
  durably<T>(work: () => T): T {
    return durably(this.#db, work);
  }

  get(key: string): SnapshotRow | undefined {
    const row = this.#db.prepare<[string], RawRow>(`${columns} WHERE s.key = ?`).get(key);
    return row === undefined ? undefined : this.#withLabels(row);
  }

  /** Oldest first. */
  list(): SnapshotRow[] {
    const labels = new Map<number, [string, string][]>();
    const all = this.#db.prepare<[], { snapshot: number; name: string; value: string }>(
      'SELECT snapshot, name, value FROM snapshot_labels',
    );
    for (const { snapshot, name, value } of all.iterate()) {
      const pair: [string, string] = [name, value];
      const found = labels.get(snapshot);
      if (found === undefined) labels.set(snapshot, [pair]);
      else found.push(pair);
    }
    const rows = this.#db.prepare<[], RawRow>(`${columns} ORDER BY s.id`).all();
    return readableRows(rows, (row) => fromRaw(row, labels.get(row.id) ?? []));
  }

  /** Those with this label, oldest first; by an index. */
  labelled(name: string, value: string): SnapshotRow[] {
    const rows = this.#db
      .prepare<[string, string], RawRow>(
        `${columns} JOIN snapshot_labels l ON l.snapshot = s.id WHERE l.name = ? AND l.value = ? ORDER BY s.id`,
      )
      .all(name, value);
    return readableRows(rows, (row) => this.#withLabels(row));
  }

  /** The snapshot `id` and all below it, topmost first. */
  chain(id: number): ChainLink[] {
    const rows = this.#db
      .prepare<[number], Pick<RawRow, 'id' | 'slot' | 'layer' | 'unsynced'>>(
        `WITH RECURSIVE chain (id, depth) AS (
           SELECT ?, 0
           UNION ALL SELECT s.parent, depth + 1 FROM snapshots s JOIN chain c ON s.id = c.id WHERE s.parent IS NOT NULL
         ) SELECT s.id, slot, layer, unsynced FROM chain c JOIN snapshots s ON s.id = c.id ORDER BY depth`,
      )
      .all(id);
    return rows.map(({ id: link, slot, layer, unsynced }) => ({
      id: link,
      slot: slot ?? undefined,
      layer: layer === null ? undefined : parseDigest(layer),
      unsynced: unsynced ?? undefined,
    }));
  }

  hasChildren(id: number): boolean {
    return this.#db.prepare('SELECT 1 FROM snapshots WHERE parent = ? LIMIT 1').get(id) !== undefined;
  }

  isShown(slot: number): boolean {
    return this.#db.prepare('SELECT 1 FROM snapshots WHERE slot = ? LIMIT 1').get(slot) !== undefined;
  }

  /** Its id. The key must be free, and the parent there. */
  insert(row: NewSnapshot, now: number = Date.now()): number {
    return this.durably(() => {
      const { lastInsertRowid } = this.#db
        .prepare(
          `INSERT INTO snapshots (key, parent, kind, slot, image, layer, reason, unpacked, unsynced, created_at, updated_at)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
        )
        .run(
          row.key,
          row.parent ?? null,
          row.kind,
          row.slot ?? null,
          row.image ?? null,
          row.layer ?? null,
          row.reason ?? null,
          row.unpacked === true ? 1 : 0,
          row.unsynced ?? null,
          now,
          now,
        );
      const id = Number(lastInsertRowid);
      this.#putLabels(id, row.labels);
      return id;
    });
  }

  /** Makes an active snapshot a committed one of another name and as of now; its labels are replaced. */
  commit(
    id: number,
    row: { readonly key: string; readonly labels: SnapshotRow['labels'] },
    now: number = Date.now(),
  ): void {
    this.durably(() => {
      this.#db
        .prepare(`UPDATE snapshots SET key = ?, kind = 'committed', created_at = ?, updated_at = ? WHERE id = ?`)
        .run(row.key, now, now, id);
      this.#putLabels(id, row.labels);
    });
  }

  replaceLabels(id: number, labels: SnapshotRow['labels'], now: number = Date.now()): void {
    this.durably(() => {
      this.#db.prepare('UPDATE snapshots SET updated_at = ? WHERE id = ?').run(now, id);
      this.#putLabels(id, labels);
    });
  }

  /** Makes a snapshot of a layer show a mount of it, another one or in place of its directory. */
  show(id: number, slot: number): void {
    this.durably(() =>
      this.#db
        .prepare('UPDATE snapshots SET slot = ?, reason = NULL, unpacked = 0, unsynced = NULL WHERE id = ?')
        .run(slot, id),
    );
  }

  /** Makes a snapshot of a layer one with a directory that was unpacked anew. */
  hold(id: number, row: { readonly reason: string; readonly unsynced: string }): void {
    this.durably(() =>
      this.#db
        .prepare(
          `UPDATE snapshots SET slot = NULL, reason = ?, unpacked = 1, unsynced = ?, size = NULL, inodes = NULL
           WHERE id = ?`,
        )
        .run(row.reason, row.unsynced, id),
    );
  }

  /** Those whose directory was written in this boot and may not be on disk yet. */
  unsynced(boot: string): number[] {
    return this.#db
      .prepare<[string], { id: number }>('SELECT id FROM snapshots WHERE unsynced = ?')
      .all(boot)
      .map(({ id }) => id);
  }

  /** The directories of these are on disk. */
  synced(ids: readonly number[]): void {
    const clear = this.#db.prepare('UPDATE snapshots SET unsynced = NULL WHERE id = ?');
    // One that a power cut takes back is refused without need, which is what the mark is for.
    this.#db.transaction(() => ids.forEach((id) => clear.run(id))).immediate();
  }

  /** What was measured is not worth a sync: it can be measured again. */
  putUsage(id: number, usage: { readonly size: number; readonly inodes: number }): void {
    this.#db.prepare('UPDATE snapshots SET size = ?, inodes = ? WHERE id = ?').run(usage.size, usage.inodes, id);
  }

  delete(id: number): void {
    this.durably(() => this.#db.prepare('DELETE FROM snapshots WHERE id = ?').run(id));
  }

  /** Of those that may have a directory. */
  directoryIds(): Set<number> {
    return new Set(
      this.#db
        .prepare<[], { id: number }>('SELECT id FROM snapshots WHERE slot IS NULL')
        .all()
        .map(({ id }) => id),
    );
  }

  counts(): Record<SnapshotKind, number> {
    const rows = this.#db
      .prepare<[], { kind: string; n: number }>('SELECT kind, count(*) AS n FROM snapshots GROUP BY kind')
      .all();
    return { view: 0, active: 0, committed: 0, ...Object.fromEntries(rows.map(({ kind, n }) => [kind, n])) };
  }

  /** Layers that containerd unpacked, or is about to, oldest first. */
  leftToContainerd(): LayerDirectory[] {
    return this.#layerDirectories('unpacked = 0');
  }

  /** Layers that peel unpacked, oldest first. */
  unpackedHere(): LayerDirectory[] {
    return this.#layerDirectories('unpacked = 1');
  }

  #layerDirectories(which: 'unpacked = 0' | 'unpacked = 1'): LayerDirectory[] {
    const rows = this.#db
      .prepare<[], RawRow>(`${columns} WHERE s.reason IS NOT NULL AND s.${which} ORDER BY s.id`)
      .all();
    return readableRows(rows, (row) => fromRaw(row, []));
  }

  #withLabels(row: RawRow): SnapshotRow {
    const labels = this.#db
      .prepare<[number], { name: string; value: string }>('SELECT name, value FROM snapshot_labels WHERE snapshot = ?')
      .all(row.id);
    return fromRaw(
      row,
      labels.map(({ name, value }) => [name, value]),
    );
  }

  #putLabels(id: number, labels: SnapshotRow['labels']): void {
    this.#db.prepare('DELETE FROM snapshot_labels WHERE snapshot = ?').run(id);
    const put = this.#db.prepare('INSERT INTO snapshot_labels (snapshot, name, value) VALUES (?, ?, ?)');
    for (const [name, value] of Object.entries(labels)) put.run(id, name, value);
  }
}

function fromRaw(row: RawRow, labels: readonly (readonly [string, string])[]): SnapshotRow {
  return {
    id: row.id,
    key: row.key,
    parent: row.parent === null || row.parent_key === null ? undefined : { id: row.parent, key: row.parent_key },
    kind: row.kind === 'view' || row.kind === 'active' ? row.kind : 'committed',
    slot: row.slot ?? undefined,
    image: row.image ?? undefined,
    layer: row.layer === null ? undefined : parseDigest(row.layer),
    reason: row.reason ?? undefined,
    unpacked: row.unpacked !== 0,
    unsynced: row.unsynced ?? undefined,
    size: row.size ?? undefined,
    inodes: row.inodes ?? undefined,
    createdAt: row.created_at,
    updatedAt: row.updated_at,
    labels: Object.fromEntries(labels),
  };
}
