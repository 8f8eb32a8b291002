import path from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { parseDigest } from '../../src/oci/digest.ts';
import { openDatabase } from '../../src/state/database.ts';
import { maxStarts, StartTable } from '../../src/state/starts.ts';
import type { StartRow } from '../../src/state/starts.ts';
import { tempDir } from '../support/tmp.ts';

const [a, b] = ['a', 'b'].map((hex) => parseDigest(`sha256:${hex.repeat(64)}`)) as [never, never];
const row: StartRow = { id: '1', reference: 'r/app:1', image: a, dir: '/mnt', startedAt: 1000, trace: '{"é":1}' };

function open(): { table: StartTable; file: string } {
  const file = path.join(tempDir('peel-state-'), 'peel.db');
  const db = openDatabase(file);
  onTestFinished(() => void db.close());
  return { table: new StartTable(db), file };
}

describe('the table of starts', () => {
  it('gives back what was put in last, by whatever is known of it', () => {
    const { table } = open();
    expect(table.last({})).toBeUndefined();
    const inContainerd: StartRow = { ...row, id: '2', image: b, dir: undefined, startedAt: 2000 };
    const other: StartRow = { ...row, id: '3', reference: 'r/other:1', startedAt: 1500 };
    for (const each of [row, inContainerd, other]) expect(table.tryPut(each)).toBe(true);
    expect(table.last({ dir: '/mnt' })).toEqual(other);
    expect(table.last({ dir: '/mnt', reference: row.reference })).toEqual(row);
    expect(table.last({ reference: row.reference })).toEqual(inContainerd);
    expect(table.last({ image: b })).toEqual(inContainerd);
    expect(table.last({ image: b, dir: '/mnt' })).toBeUndefined();
    table.tryPut({ ...row, trace: '{}' });
    expect(table.last({ dir: '/mnt', reference: row.reference })?.trace).toBe('{}');
    const { trace: _, ...known } = inContainerd;
    expect(table.list()).toHaveLength(3);
    expect(table.list()[0]).toEqual(known);
  });

  it('keeps the newest ones, however they came', () => {
    const { table } = open();
    const times = Array.from({ length: maxStarts + 6 }, (_, i) => 1000 + ((i * 37) % (maxStarts + 6)));
    for (const startedAt of times) table.tryPut({ ...row, id: `id ${startedAt}`, startedAt });
    const kept = times.toSorted((x, y) => y - x).slice(0, maxStarts);
    expect(table.list().map(({ startedAt }) => startedAt)).toEqual(kept);
  });

  it('does not wait for another process that writes', () => {
    const { table, file } = open();
    const other = openDatabase(file);
    onTestFinished(() => void other.close());
    other.exec('BEGIN IMMEDIATE');
    const before = performance.now();
    expect(table.tryPut(row)).toBe(false);
    expect(performance.now() - before).toBeLessThan(1000);
    other.exec('COMMIT');
    expect(table.tryPut(row)).toBe(true);
    expect(table.last({})).toEqual(row);
    // Everybody else waits as before.
    expect(table.busyTimeoutMs).toBe(20_000);
  });
});
