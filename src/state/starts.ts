import { parseDigest } from '../oci/digest.ts';
import type { Digest } from '../oci/digest.ts';
import type { Database } from './database.ts';
import { readableRows } from './readable-rows.ts';
import { tryNow } from './try-now.ts';

export interface StartRow {
  readonly id: string;
  /** In full. */
  readonly reference: string;
  /** Manifest digest. */
  readonly image: Digest;
  /** Where it was mounted; undefined: a snapshot of containerd. */
  readonly dir: string | undefined;
  /** ms since the epoch. */
  readonly startedAt: number;
  /** JSON; what is in it is for the caller to say. */
  readonly trace: string;
}

export type StartSubject = Partial<Pick<StartRow, 'dir' | 'reference' | 'image'>>;

/** Starts that are kept; a trace has up to half a MB. */
export const maxStarts = 64;

interface RawRow {
  id: string;
  reference: string;
  image: string;
  dir: string | null;
  started_at: number;
  trace: string;
}

/** The last starts of images, and what each read, waited for and fetched. */
export class StartTable {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /**
   * In the place of an earlier one with its id; the oldest ones go. False, and nothing is written, when another process writes just now: whoever
   * serves reads does not wait for that.
   */
  tryPut(row: StartRow): boolean {
    const put = () => {
      this.#db.transaction(() => this.#put(row)).immediate();
      return true;
    };
    return tryNow(this.#db, put) ?? false;
  }

  /** How long other writes of this connection wait. */
  get busyTimeoutMs(): number {
    return Number(this.#db.pragma('busy_timeout', { simple: true }));
  }

  /** The newest one of all that is said of it. */
  last({ dir, reference, image }: StartSubject): StartRow | undefined {
    const said = { dir: dir ?? null, reference: reference ?? null, image: image ?? null };
    const row = this.#db
      .prepare<[typeof said], RawRow>(
        `SELECT * FROM starts WHERE ($dir IS NULL OR dir = $dir) AND ($reference IS NULL OR reference = $reference)
         AND ($image IS NULL OR image = $image) ORDER BY started_at DESC, id DESC LIMIT 1`,
      )
      .get(said);
    return row === undefined ? undefined : fromRaw(row);
  }

  /** Newest first, without their traces. */
  list(): Omit<StartRow, 'trace'>[] {
    const rows = this.#db
      .prepare<[], Omit<RawRow, 'trace'>>(
        'SELECT id, reference, image, dir, started_at FROM starts ORDER BY started_at DESC, id DESC',
      )
      .all();
    return readableRows(rows, withoutTrace);
  }

  #put({ id, reference, image, dir, startedAt, trace }: StartRow): void {
    this.#db
      .prepare('INSERT OR REPLACE INTO starts (id, reference, image, dir, started_at, trace) VALUES (?, ?, ?, ?, ?, ?)')
      .run(id, reference, image, dir ?? null, startedAt, trace);
    this.#db
      .prepare('DELETE FROM starts WHERE id NOT IN (SELECT id FROM starts ORDER BY started_at DESC, id DESC LIMIT ?)')
      .run(maxStarts);
  }
}

function fromRaw(row: RawRow): StartRow {
  return { ...withoutTrace(row), trace: row.trace };
}

function withoutTrace({ id, reference, image, dir, started_at }: Omit<RawRow, 'trace'>): Omit<StartRow, 'trace'> {
  return { id, reference, image: parseDigest(image), dir: dir ?? undefined, startedAt: started_at };
}
