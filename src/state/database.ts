import Sqlite from 'better-sqlite3';
import { StateError } from './errors.ts';
import { migrations } from './schema.ts';

export type Database = Sqlite.Database;

/**
 * Opens (and creates or upgrades) the node's database. Several processes may hold it: WAL, and a writer waits for another.
 * Errors: ERR_STATE_OPEN when the file cannot be opened or is not a database; ERR_STATE_VERSION when a newer peel wrote it.
 */
export function openDatabase(path: string, options: { busyTimeoutMs?: number } = {}): Database {
  const timeout = options.busyTimeoutMs ?? 20_000;
  let db: Database | undefined;
  try {
    db = new Sqlite(path, { timeout });
    useWal(db, timeout);
    db.pragma('synchronous = NORMAL');
    db.pragma('foreign_keys = ON');
    db.pragma('cache_size = -512');
    migrate(db, path);
    keepStatements(db);
    return db;
  } catch (cause) {
    db?.close();
    if (cause instanceof StateError) throw cause;
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new StateError('ERR_STATE_OPEN', `cannot open the database ${path}: ${why}`, { cause });
  }
}

/** Compiling a statement takes longer than running it. None is used again while it iterates. */
function keepStatements(db: Database): void {
  const kept = new Map<string, Sqlite.Statement>();
  const prepare = db.prepare.bind(db);
  db.prepare = ((sql: string) => {
    const statement = kept.get(sql) ?? prepare(sql);
    kept.set(sql, statement);
    return statement;
  }) as Database['prepare'];
}

const clock = new Int32Array(new SharedArrayBuffer(4));
const pauseMs = 10;

/** Of two processes that make the database at once SQLite gives one up without waiting, as each holds what the other one waits for. */
function useWal(db: Database, timeoutMs: number): void {
  for (const latest = performance.now() + timeoutMs; ; Atomics.wait(clock, 0, 0, pauseMs)) {
    try {
      db.pragma('journal_mode = WAL');
      return;
    } catch (error) {
      if (!isBusy(error) || performance.now() > latest) throw error;
    }
  }
}

/** Whether a statement failed because of another process that holds the database. */
export function isBusy(error: unknown): boolean {
  return error instanceof Sqlite.SqliteError && error.code.startsWith('SQLITE_BUSY');
}

/** Whether a statement failed because there is no room for what it writes. */
export function isFull(error: unknown): boolean {
  return error instanceof Sqlite.SqliteError && error.code.startsWith('SQLITE_FULL');
}

/** One immediate transaction: of two processes starting at once the second waits and then finds nothing to do. */
function migrate(db: Database, path: string): void {
  const version = () => Number(db.pragma('user_version', { simple: true }));
  if (version() === migrations.length) return;
  db.transaction(() => {
    const from = version();
    if (from > migrations.length) {
      throw new StateError(
        'ERR_STATE_VERSION',
        `${path} was written by a newer peel (schema ${from}): upgrade peel or use another --root`,
      );
    }
    for (const sql of migrations.slice(from)) db.exec(sql);
    db.pragma(`user_version = ${migrations.length}`);
  }).immediate();
}
