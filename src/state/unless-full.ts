import { isFull } from './database.ts';

/** Writes what can be done without for now; false where the disk has no room for it. Errors: all others of `write`. */
export function unlessFull(write: () => void): boolean {
  try {
    write();
    return true;
  } catch (error) {
    if (isFull(error)) return false;
    throw error;
  }
}
