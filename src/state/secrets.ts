import type { Database } from './database.ts';

export interface SecretRow {
  /** Registry and repository: `ghcr.io/team/app`. */
  readonly scope: string;
  /** Encrypted; the key is not here. */
  readonly sealed: Uint8Array;
  /** ms since the epoch. */
  readonly usedAt: number;
}

/** Credentials that are kept over a restart, in a form that says nothing without a key. */
export class SecretTable {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  put(scope: string, sealed: Uint8Array, now: number = Date.now()): void {
    this.#db
      .prepare('INSERT OR REPLACE INTO secrets (scope, sealed, used_at) VALUES (?, ?, ?)')
      .run(scope, sealed, now);
  }

  touch(scope: string, now: number = Date.now()): void {
    this.#db.prepare('UPDATE secrets SET used_at = ? WHERE scope = ?').run(now, scope);
  }

  delete(scope: string): boolean {
    return this.#db.prepare('DELETE FROM secrets WHERE scope = ?').run(scope).changes > 0;
  }

  /** Removes all but the `keep` that were used last. */
  prune(keep: number): void {
    this.#db
      .prepare(
        'DELETE FROM secrets WHERE scope IN (SELECT scope FROM secrets ORDER BY used_at DESC, scope LIMIT -1 OFFSET ?)',
      )
      .run(keep);
  }

  /** Least recently used first. */
  list(): SecretRow[] {
    return this.#db
      .prepare<[], { scope: string; sealed: Uint8Array; used_at: number }>(
        'SELECT * FROM secrets ORDER BY used_at, scope',
      )
      .all()
      .map((row) => ({ scope: row.scope, sealed: row.sealed, usedAt: row.used_at }));
  }
}
