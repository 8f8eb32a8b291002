import { parseDigest } from '../oci/digest.ts';
import type { Digest } from '../oci/digest.ts';
import type { Database } from './database.ts';

/** What an index could say of one layer, once somebody here has read it as a whole. */
export type ZtocRow = { readonly layer: Digest } & (
  | {
      readonly ztoc: Digest;
      /** Bytes of the zTOC. */
      readonly size: number;
      /** Bytes of stream per span that were asked for. */
      readonly spanSize: number;
      readonly skipped: undefined;
    }
  | { readonly ztoc: undefined /** Why none can describe the layer. */; readonly skipped: string }
);

interface RawRow {
  layer: string;
  ztoc: string | null;
  size: number;
  span_size: number;
  skipped: string | null;
}

/** zTOCs that were made on this node, whatever images their layers are in. */
export class ZtocTable {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  get(layer: Digest): ZtocRow | undefined {
    const row = this.#db.prepare<[string], RawRow>('SELECT * FROM ztocs WHERE layer = ?').get(layer);
    if (row === undefined) return undefined;
    if (row.ztoc === null) return { layer, ztoc: undefined, skipped: row.skipped ?? '' };
    return { layer, ztoc: parseDigest(row.ztoc), size: row.size, spanSize: row.span_size, skipped: undefined };
  }

  put(row: ZtocRow): void {
    const { size, spanSize } = row.ztoc === undefined ? { size: 0, spanSize: 0 } : row;
    this.#db
      .prepare('INSERT OR REPLACE INTO ztocs (layer, ztoc, size, span_size, skipped) VALUES (?, ?, ?, ?, ?)')
      .run(row.layer, row.ztoc ?? null, size, spanSize, row.skipped ?? null);
  }

  /** Forgets whose zTOC has this digest. */
  deleteByZtoc(ztoc: Digest): void {
    this.#db.prepare('DELETE FROM ztocs WHERE ztoc = ?').run(ztoc);
  }
}
