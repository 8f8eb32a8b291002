import { parseDigest } from '../oci/digest.ts';
import type { Digest } from '../oci/digest.ts';
import type { Database } from './database.ts';

/** What a peel index could say of one layer, once somebody here has read it as a whole. */
export type PeelTableRow = { readonly layer: Digest } & (
  | {
      readonly table: Digest;
      /** Bytes of the table. */
      readonly size: number;
      /** Undefined for a layer that needs no windows. */
      readonly windows: { readonly digest: Digest; readonly size: number } | undefined;
      /** Bytes of stream per span that were asked for. */
      readonly spanSize: number;
      readonly skipped: undefined;
    }
  | { readonly table: undefined /** Why none can describe the layer. */; readonly skipped: string }
);

interface RawRow {
  layer: string;
  table_digest: string | null;
  size: number;
  windows: string | null;
  windows_size: number;
  span_size: number;
  skipped: string | null;
}

/** Peel tables that were made on this node, whatever images their layers are in. */
export class PeelTableTable {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  get(layer: Digest): PeelTableRow | undefined {
    const row = this.#db.prepare<[string], RawRow>('SELECT * FROM peel_tables WHERE layer = ?').get(layer);
    if (row === undefined) return undefined;
    if (row.table_digest === null) return { layer, table: undefined, skipped: row.skipped ?? '' };
    const windows = row.windows === null ? undefined : { digest: parseDigest(row.windows), size: row.windows_size };
    const table = parseDigest(row.table_digest);
    return { layer, table, size: row.size, windows, spanSize: row.span_size, skipped: undefined };
  }

  put(row: PeelTableRow): void {
    const { size, windows, spanSize } = row.table === undefined ? { size: 0, windows: undefined, spanSize: 0 } : row;
    this.#db
      .prepare(
        `INSERT OR REPLACE INTO peel_tables (layer, table_digest, size, windows, windows_size, span_size, skipped)
         VALUES (?, ?, ?, ?, ?, ?, ?)`,
      )
      .run(
        row.layer,
        row.table ?? null,
        size,
        windows?.digest ?? null,
        windows?.size ?? 0,
        spanSize,
        row.skipped ?? null,
      );
  }

  /** Forgets whose table has this digest. */
  deleteByTable(table: Digest): void {
    this.#db.prepare('DELETE FROM peel_tables WHERE table_digest = ?').run(table);
  }
}
