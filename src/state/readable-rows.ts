/**
 * Those rows that can be read: a damaged one must not hide the others, nor stop whoever lists them. `damagedRows` names it.
 */
export function readableRows<R, T>(rows: readonly R[], read: (row: R) => T): T[] {
  return rows.flatMap((row) => {
    try {
      return [read(row)];
    } catch {
      return [];
    }
  });
}
