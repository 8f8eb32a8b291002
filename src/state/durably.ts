import type { Database } from './database.ts';

/**
 * One transaction that is on disk when this returns, also across a power cut; within another one that is just part of it. The rest of the
 * database is content with `synchronous = NORMAL`, where a commit of the last seconds may be lost. Errors: those of `work`, which leaves
 * nothing behind then.
 */
export function durably<T>(db: Database, work: () => T): T {
  if (db.inTransaction) return work();
  // Not possible within a transaction, hence around it.
  db.pragma('synchronous = FULL');
  try {
    return db.transaction(work).immediate();
  } finally {
    db.pragma('synchronous = NORMAL');
  }
}
