import { parseDigest } from '../oci/digest.ts';
import type { Digest } from '../oci/digest.ts';
import type { Database } from './database.ts';
import { readableRows } from './readable-rows.ts';

export interface SlotRow {
  /** Names the mount, in base 36; never used again. */
  readonly slot: number;
  /** Key of the compiled tree that it shows. */
  readonly tree: string;
  readonly layer: Digest;
  /** One phrase: why the layer is served as it is. */
  readonly reason: string;
  /** What went wrong with it last. */
  readonly error: string | undefined;
  /** What is mounted reads the layer's file itself, so that it lives without any process. */
  readonly direct: boolean;
  /** ms since the epoch. */
  readonly createdAt: number;
}

interface RawRow {
  slot: number;
  tree: string;
  layer: string;
  reason: string;
  error: string | null;
  direct: number;
  created_at: number;
}

/** Layer trees that are mounted, or shall be when the daemon starts. */
export class SlotTable {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  get(slot: number): SlotRow | undefined {
    const row = this.#db.prepare<[number], RawRow>('SELECT * FROM slots WHERE slot = ?').get(slot);
    return row === undefined ? undefined : fromRaw(row);
  }

  byTree(tree: string): SlotRow | undefined {
    const row = this.#db.prepare<[string], RawRow>('SELECT * FROM slots WHERE tree = ?').get(tree);
    return row === undefined ? undefined : fromRaw(row);
  }

  byLayer(layer: Digest): SlotRow[] {
    return this.#db
      .prepare<[string], RawRow>('SELECT * FROM slots WHERE layer = ? ORDER BY slot')
      .all(layer)
      .map(fromRaw);
  }

  /** The slot of a tree, a new one where it has none; its layer and reason become those given, its error goes. */
  claim(row: Pick<SlotRow, 'tree' | 'layer' | 'reason'>): number {
    const { slot } = this.#db
      .prepare<[string, string, string, number], { slot: number }>(
        `INSERT INTO slots (tree, layer, reason, created_at) VALUES (?, ?, ?, ?)
         ON CONFLICT (tree) DO UPDATE SET layer = excluded.layer, reason = excluded.reason, error = NULL
         RETURNING slot`,
      )
      .get(row.tree, row.layer, row.reason, Date.now()) ?? { slot: 0 };
    return slot;
  }

  setDirect(slot: number, direct: boolean): void {
    this.#db.prepare('UPDATE slots SET direct = ? WHERE slot = ?').run(direct ? 1 : 0, slot);
  }

  setError(slot: number, error: string | undefined): void {
    this.#db.prepare('UPDATE slots SET error = ? WHERE slot = ?').run(error ?? null, slot);
  }

  delete(slot: number): boolean {
    return this.#db.prepare('DELETE FROM slots WHERE slot = ?').run(slot).changes > 0;
  }

  list(): SlotRow[] {
    return readableRows(this.#db.prepare<[], RawRow>('SELECT * FROM slots ORDER BY slot').all(), fromRaw);
  }

  /** Those that a snapshot shows. */
  shown(): number[] {
    return this.#db
      .prepare<[], { slot: number }>('SELECT DISTINCT slot FROM snapshots WHERE slot IS NOT NULL ORDER BY slot')
      .all()
      .map(({ slot }) => slot);
  }

  /** Layers of those that a snapshot shows. */
  shownLayers(): Digest[] {
    const rows = this.#db
      .prepare<[], { layer: string }>('SELECT DISTINCT layer FROM slots WHERE slot IN (SELECT slot FROM snapshots)')
      .all();
    return readableRows(rows, ({ layer }) => parseDigest(layer));
  }

  isShown(slot: number): boolean {
    return (
      this.#db.prepare<[number], unknown>('SELECT 1 FROM snapshots WHERE slot = ? LIMIT 1').get(slot) !== undefined
    );
  }
}

function fromRaw(row: RawRow): SlotRow {
  return {
    slot: row.slot,
    tree: row.tree,
    layer: parseDigest(row.layer),
    reason: row.reason,
    error: row.error ?? undefined,
    direct: row.direct !== 0,
    createdAt: row.created_at,
  };
}
