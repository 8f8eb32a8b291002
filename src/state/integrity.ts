import type { Database } from './database.ts';
import { damagedRows, deleteDamagedRows } from './damaged-rows.ts';
import type { DamagedRow } from './damaged-rows.ts';

const maxErrors = 100;

/** Whether the database is what it should be; for `peel fsck`. */
export class Integrity {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** What SQLite finds wrong in the file, at most 100 lines; none is the normal case. Errors: those of the database. */
  fileErrors(): string[] {
    const rows = this.#db.prepare<[], { integrity_check: string }>(`PRAGMA integrity_check(${maxErrors})`).all();
    return rows.map(({ integrity_check: line }) => line).filter((line) => line !== 'ok');
  }

  /** Rows that refer to one that is not there. */
  danglingRows(): string[] {
    const rows = this.#db
      .prepare<[], { table: string; rowid: number | null; parent: string }>('PRAGMA foreign_key_check')
      .all();
    return rows.map(
      ({ table, rowid, parent }) => `a row of ${table} (${rowid ?? 'no id'}) refers to no row of ${parent}`,
    );
  }

  /** Rows that cannot be read as what they are; lists leave them out. */
  damagedRows(): DamagedRow[] {
    return damagedRows(this.#db);
  }

  /** Deletes those of them that may go; returns how many there were. */
  deleteDamagedRows(): number {
    return deleteDamagedRows(this.#db);
  }

  /** Makes the indexes anew from their tables. Errors: those of the database. */
  reindex(): void {
    this.#db.exec('REINDEX');
  }
}
