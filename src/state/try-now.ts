import { setTimeout as delay } from 'node:timers/promises';
import { isBusy } from './database.ts';
import type { Database } from './database.ts';

/** What `work` returns, or undefined, with nothing written, when another process writes just now: whoever serves reads does not wait for that. */
export function tryNow<T>(db: Database, work: () => T): T | undefined {
  const timeout = Number(db.pragma('busy_timeout', { simple: true }));
  db.pragma('busy_timeout = 0');
  try {
    return work();
  } catch (error) {
    if (isBusy(error)) return undefined;
    throw error;
  } finally {
    db.pragma(`busy_timeout = ${timeout}`);
  }
}

export interface TrySoonOptions {
  /** How often it is tried in all, and the pause between, ms. */
  readonly attempts?: number | undefined;
  readonly pauseMs?: number | undefined;
}

/** `tryNow` again and again. Undefined, and nothing is written, when others wrote all the time; default for two seconds. */
export async function trySoon<T>(
  db: Database,
  work: () => T,
  { attempts = 20, pauseMs = 100 }: TrySoonOptions = {},
): Promise<T | undefined> {
  for (let left = attempts; left > 0; left -= 1) {
    const result = tryNow(db, work);
    if (result !== undefined || left === 1) return result;
    await delay(pauseMs);
    if (!db.open) return undefined;
  }
  return undefined;
}
