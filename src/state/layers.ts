import { parseDigest } from '../oci/digest.ts';
import type { Digest } from '../oci/digest.ts';
import type { Database } from './database.ts';
import { readableRows } from './readable-rows.ts';

export type LayerIndexFormat = 'peel' | 'soci-v1' | 'soci-v2' | 'node';

export interface LayerRow {
  readonly digest: Digest;
  readonly mediaType: string;
  /** Bytes of the blob. */
  readonly size: number;
  readonly diffId: Digest;
  /** Bytes of the layer stream. */
  readonly streamSize: number;
  readonly indexFormat: LayerIndexFormat;
  readonly indexDigest: Digest | undefined;
  readonly indexSource: string;
  /** One phrase: why the layer is served the way it is. */
  readonly reason: string;
  /** Why the layer's bytes may not be trusted; undefined is the normal case. */
  readonly suspect: string | undefined;
  /** ms since the epoch. */
  readonly usedAt: number;
}

const indexFormats: readonly LayerIndexFormat[] = ['peel', 'soci-v1', 'soci-v2'];

interface RawRow {
  digest: string;
  media_type: string;
  size: number;
  diff_id: string;
  stream_size: number;
  index_format: string;
  index_digest: string | null;
  index_source: string;
  reason: string;
  suspect: string | null;
  used_at: number;
}

/** Layers that have a directory in the block cache: where their index came from and when they were last used. */
export class LayerTable {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  get(digest: Digest): LayerRow | undefined {
    const row = this.#db.prepare<[string], RawRow>('SELECT * FROM layers WHERE digest = ?').get(digest);
    return row === undefined ? undefined : fromRaw(row);
  }

  put(row: Omit<LayerRow, 'usedAt' | 'suspect'>): void {
    this.#db
      .prepare(
        `INSERT OR REPLACE INTO layers
         (digest, media_type, size, diff_id, stream_size, index_format, index_digest, index_source, reason, suspect, used_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, ?)`,
      )
      .run(
        row.digest,
        row.mediaType,
        row.size,
        row.diffId,
        row.streamSize,
        row.indexFormat,
        row.indexDigest ?? null,
        row.indexSource,
        row.reason,
        Date.now(),
      );
  }

  touch(digests: readonly Digest[], now: number = Date.now()): void {
    const update = this.#db.prepare('UPDATE layers SET used_at = ? WHERE digest = ?');
    this.#db.transaction(() => {
      for (const digest of digests) update.run(now, digest);
    })();
  }

  markSuspect(digest: Digest, why: string): void {
    this.#db.prepare('UPDATE layers SET suspect = ? WHERE digest = ?').run(why, digest);
  }

  delete(digest: Digest): boolean {
    return this.#db.prepare('DELETE FROM layers WHERE digest = ?').run(digest).changes > 0;
  }

  /** Least recently used first. */
  list(): LayerRow[] {
    const rows = this.#db.prepare<[], RawRow>('SELECT * FROM layers ORDER BY used_at, digest').all();
    return readableRows(rows, fromRaw);
  }
}

function fromRaw(row: RawRow): LayerRow {
  return {
    digest: parseDigest(row.digest),
    mediaType: row.media_type,
    size: row.size,
    diffId: parseDigest(row.diff_id),
    streamSize: row.stream_size,
    indexFormat: indexFormats.find((format) => format === row.index_format) ?? 'node',
    indexDigest: row.index_digest === null ? undefined : parseDigest(row.index_digest),
    indexSource: row.index_source,
    reason: row.reason,
    suspect: row.suspect ?? undefined,
    usedAt: row.used_at,
  };
}
