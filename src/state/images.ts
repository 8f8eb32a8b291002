import type { Descriptor } from '../oci/descriptor.ts';
import { parseDigest } from '../oci/digest.ts';
import type { Digest } from '../oci/digest.ts';
import type { Database } from './database.ts';
import { readableRows } from './readable-rows.ts';

export interface ImageRow {
  readonly reference: string;
  readonly descriptor: Descriptor;
  /** ms since the epoch. */
  readonly seenAt: number;
}

interface RawRow {
  reference: string;
  digest: string;
  media_type: string;
  size: number;
  seen_at: number;
}

/** What references last resolved to, and the media types of the files in the content store. */
export class ImageTable {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  get(reference: string): ImageRow | undefined {
    const row = this.#db.prepare<[string], RawRow>('SELECT * FROM images WHERE reference = ?').get(reference);
    return row === undefined ? undefined : fromRaw(row);
  }

  put(reference: string, descriptor: Descriptor): void {
    this.#db
      .prepare('INSERT OR REPLACE INTO images (reference, digest, media_type, size, seen_at) VALUES (?, ?, ?, ?, ?)')
      .run(reference, descriptor.digest, descriptor.mediaType, descriptor.size, Date.now());
  }

  delete(reference: string): boolean {
    return this.#db.prepare('DELETE FROM images WHERE reference = ?').run(reference).changes > 0;
  }

  /** By reference. */
  list(): ImageRow[] {
    return readableRows(this.#db.prepare<[], RawRow>('SELECT * FROM images ORDER BY reference').all(), fromRaw);
  }

  mediaType(digest: Digest): string | undefined {
    const row = this.#db
      .prepare<[string], { media_type: string }>('SELECT media_type FROM contents WHERE digest = ?')
      .get(digest);
    return row?.media_type;
  }

  putContent(descriptor: Descriptor): void {
    this.#db
      .prepare('INSERT OR REPLACE INTO contents (digest, media_type, size, used_at) VALUES (?, ?, ?, ?)')
      .run(descriptor.digest, descriptor.mediaType, descriptor.size, Date.now());
  }
}

function fromRaw(row: RawRow): ImageRow {
  const descriptor = { mediaType: row.media_type, digest: parseDigest(row.digest), size: row.size };
  return { reference: row.reference, descriptor, seenAt: row.seen_at };
}
