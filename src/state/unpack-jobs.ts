import { parseDigest } from '../oci/digest.ts';
import type { Digest } from '../oci/digest.ts';
import type { ByteString } from '../util/byte-string.ts';
import type { Database } from './database.ts';
import { durably } from './durably.ts';
import { readableRows } from './readable-rows.ts';

/**
 * - `in_progress`: its folder is being filled, or was when its process ended.
 * - `done`: the tree is in its folder, whole and verified.
 * - `claimed`: somebody has taken the tree.
 * - `failed`, `cancelled`: what was downloaded is in its folder.
 * - `expired`: nothing of it is wanted any more.
 */
export type UnpackJobState = 'in_progress' | 'done' | 'claimed' | 'failed' | 'cancelled' | 'expired';

/** What is made: a layer's tree in one of the forms of overlays or without them, or a part of an image's only directory. */
export type UnpackJobForm = 'overlay' | 'overlay-user' | 'plain' | 'image';

/** What two jobs that make the same have in common. */
export interface UnpackJobSubject {
  readonly layer: Digest;
  readonly diffId: Digest;
  readonly form: UnpackJobForm;
  /** Bytes of the blob. */
  readonly size: number;
}

/** The subject, and what else is known of it. */
export interface NewUnpackJob extends UnpackJobSubject {
  /** Of the blob. */
  readonly mediaType: string;
  /** Reference of the image that it is begun for. */
  readonly image: string;
}

export interface UnpackJobRow extends UnpackJobSubject {
  readonly mediaType: string;
  /** Never used again. */
  readonly job: number;
  /** Reference of the image that it was begun for last. */
  readonly image: string;
  readonly state: UnpackJobState;
  readonly implied: readonly ByteString[] | undefined;
  /** Those of them that only hold what hides something. */
  readonly hiding: readonly ByteString[] | undefined;
  /** In which its tree was written. */
  readonly boot: string | undefined;
  /** Of the error that ended it, and the same in words. */
  readonly code: string | undefined;
  readonly cause: string | undefined;
  /** ms since the epoch. */
  readonly createdAt: number;
  readonly updatedAt: number;
}

/** What a job is from now on; what is not named is empty. */
export interface UnpackJobChange extends Partial<Pick<UnpackJobRow, 'implied' | 'hiding' | 'boot' | 'code' | 'cause'>> {
  readonly state: UnpackJobState;
}

interface RawRow {
  job: number;
  layer: string;
  diff_id: string;
  form: string;
  image: string;
  size: number;
  media_type: string;
  state: string;
  implied: string | null;
  hiding: string | null;
  boot: string | null;
  code: string | null;
  cause: string | null;
  created_at: number;
  updated_at: number;
}

/** The jobs that unpack layers. Which state may follow which is for the caller to say, by `from`. */
export class UnpackJobTable {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** One transaction that is on disk when this returns. */
  durably<T>(work: () => T): T {
    return durably(this.#db, work);
  }

  get(job: number): UnpackJobRow | undefined {
    const row = this.#db.prepare<[number], RawRow>('SELECT * FROM unpack_jobs WHERE job = ?').get(job);
    return row === undefined ? undefined : fromRaw(row);
  }

  /** Oldest first. */
  list(): UnpackJobRow[] {
    return readableRows(this.#db.prepare<[], RawRow>('SELECT * FROM unpack_jobs ORDER BY job').all(), fromRaw);
  }

  /** Jobs that make this, newest first. */
  of(subject: UnpackJobSubject): UnpackJobRow[] {
    const { layer, diffId, form, size } = subject;
    const rows = this.#db
      .prepare<[string, string, string, number], RawRow>(
        'SELECT * FROM unpack_jobs WHERE layer = ? AND diff_id = ? AND form = ? AND size = ? ORDER BY job DESC',
      )
      .all(layer, diffId, form, size);
    return readableRows(rows, fromRaw);
  }

  /** A job in progress; its number. */
  insert({ layer, diffId, form, size, mediaType, image }: NewUnpackJob, now: number = Date.now()): number {
    const { lastInsertRowid } = this.#db
      .prepare(
        `INSERT INTO unpack_jobs (layer, diff_id, form, image, size, media_type, state, created_at, updated_at)
         VALUES (?, ?, ?, ?, ?, ?, 'in_progress', ?, ?)`,
      )
      .run(layer, diffId, form, image, size, mediaType, now, now);
    return Number(lastInsertRowid);
  }

  /** False when the job is not there or in none of the states `from`; nothing is changed then. */
  change(job: number, from: readonly UnpackJobState[], to: UnpackJobChange, now: number = Date.now()): boolean {
    const { changes } = this.#db
      .prepare(
        `UPDATE unpack_jobs SET state = ?, implied = ?, hiding = ?, boot = ?, code = ?, cause = ?, updated_at = ?
         WHERE job = ? AND state IN (SELECT value FROM json_each(?))`,
      )
      .run(
        to.state,
        jsonOrNull(to.implied),
        jsonOrNull(to.hiding),
        to.boot ?? null,
        to.code ?? null,
        to.cause ?? null,
        now,
        job,
        JSON.stringify(from),
      );
    return changes > 0;
  }

  /** The job is wanted again, for this image. */
  touch(job: number, image: string, now: number = Date.now()): void {
    this.#db.prepare('UPDATE unpack_jobs SET image = ?, updated_at = ? WHERE job = ?').run(image, now, job);
  }

  delete(job: number): boolean {
    return this.#db.prepare('DELETE FROM unpack_jobs WHERE job = ?').run(job).changes > 0;
  }
}

function fromRaw(row: RawRow): UnpackJobRow {
  return {
    job: row.job,
    layer: parseDigest(row.layer),
    diffId: parseDigest(row.diff_id),
    form: row.form as UnpackJobForm,
    image: row.image,
    size: row.size,
    mediaType: row.media_type,
    state: row.state as UnpackJobState,
    implied: pathsOf(row.implied),
    hiding: pathsOf(row.hiding),
    boot: row.boot ?? undefined,
    code: row.code ?? undefined,
    cause: row.cause ?? undefined,
    createdAt: row.created_at,
    updatedAt: row.updated_at,
  };
}

function jsonOrNull(paths: readonly ByteString[] | undefined): string | null {
  return paths === undefined ? null : JSON.stringify(paths);
}

function pathsOf(json: string | null): readonly ByteString[] | undefined {
  return json === null ? undefined : (JSON.parse(json) as ByteString[]);
}
