import { parseDigest } from '../oci/digest.ts';
import type { Digest } from '../oci/digest.ts';
import type { Database } from './database.ts';
import { readableRows } from './readable-rows.ts';

export type IndexFormat = 'peel' | 'soci-v1' | 'soci-v2';
/** An image may have one of each. */
export type IndexKind = 'peel' | 'soci';

/** What was learned when an image's seekable index was looked for. */
export interface IndexRow {
  readonly image: Digest;
  readonly kind: IndexKind;
  /** Undefined: looked for, and there was none. */
  readonly digest: Digest | undefined;
  readonly format: IndexFormat | undefined;
  /** Where it was found or looked for, for people. */
  readonly source: string;
  /** ms since the epoch. */
  readonly foundAt: number;
}

interface RawRow {
  image: string;
  kind: string;
  digest: string | null;
  format: string | null;
  source: string;
  found_at: number;
}

const formats: readonly IndexFormat[] = ['peel', 'soci-v1', 'soci-v2'];

export class IndexTable {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  get(image: Digest, kind: IndexKind): IndexRow | undefined {
    const row = this.#db
      .prepare<[string, string], RawRow>('SELECT * FROM image_indexes WHERE image = ? AND kind = ?')
      .get(image, kind);
    return row === undefined ? undefined : fromRaw(row);
  }

  put(row: Omit<IndexRow, 'foundAt'>): void {
    this.#db
      .prepare(
        'INSERT OR REPLACE INTO image_indexes (image, kind, digest, format, source, found_at) VALUES (?, ?, ?, ?, ?, ?)',
      )
      .run(row.image, row.kind, row.digest ?? null, row.format ?? null, row.source, Date.now());
  }

  /** The ones that exist, newest first. */
  list(): IndexRow[] {
    const rows = this.#db
      .prepare<[], RawRow>('SELECT * FROM image_indexes WHERE digest IS NOT NULL ORDER BY found_at DESC, image, kind')
      .all();
    return readableRows(rows, fromRaw);
  }

  /** Forgets every image's binding to the index `digest`; returns how many there were. */
  deleteByDigest(digest: Digest): number {
    return this.#db.prepare('DELETE FROM image_indexes WHERE digest = ?').run(digest).changes;
  }

  delete(image: Digest): boolean {
    return this.#db.prepare('DELETE FROM image_indexes WHERE image = ?').run(image).changes > 0;
  }
}

function fromRaw(row: RawRow): IndexRow {
  return {
    image: parseDigest(row.image),
    kind: row.kind === 'peel' ? 'peel' : 'soci',
    digest: row.digest === null ? undefined : parseDigest(row.digest),
    format: formats.find((format) => format === row.format),
    source: row.source,
    foundAt: row.found_at,
  };
}
