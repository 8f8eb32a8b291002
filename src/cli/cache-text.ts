// What `peel cache` says to people.
import type { CacheReport } from '../image/cache-report.ts';
import { humanBytes, oneLine, percent, shortDigest } from './human.ts';
import { tableLines } from './table.ts';

export function cacheLines({ used, bounds, freeBytes, pinned }: CacheReport): string[] {
  const { limit, high, low } = bounds;
  const parts = [
    `layers ${humanBytes(used.layers)}`,
    `compressed layers ${humanBytes(used.compressed)}`,
    `trees ${humanBytes(used.trees)}`,
  ];
  const sum = pinned.reduce((bytes, layer) => bytes + layer.bytes, 0);
  return [
    `${humanBytes(used.total)} of at most ${humanBytes(limit)} (${percent(used.total, limit)}): ${parts.join(', ')}`,
    `from ${humanBytes(high)} on the oldest goes, until ${humanBytes(low)} are left; ${humanBytes(freeBytes)} of the disk are free`,
    ...(pinned.length === 0
      ? ['everything can go']
      : [
          '',
          `${humanBytes(sum)} cannot go:`,
          ...tableLines(
            [{ title: 'LAYER' }, { title: 'ON DISK', align: 'right' }, { title: 'WHY' }],
            pinned.map(({ digest, bytes, why }) => [shortDigest(digest), humanBytes(bytes), oneLine(why)]),
          ),
        ]),
  ];
}
