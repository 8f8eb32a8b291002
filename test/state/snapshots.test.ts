import path from 'node:path';
import Sqlite from 'better-sqlite3';
import { describe, expect, it } from 'vitest';
import { openDatabase } from '../../src/state/database.ts';
import { durably } from '../../src/state/durably.ts';
import { SnapshotTable } from '../../src/state/snapshots.ts';
import { hasTool } from '../support/list-tree.ts';
import { runOk } from '../support/run.ts';
import { tempDir } from '../support/tmp.ts';

function open() {
  const root = tempDir('peel-state-');
  const db = openDatabase(path.join(root, 'peel.db'));
  return { root, db, table: new SnapshotTable(db) };
}

const synchronous = (db: Sqlite.Database) => db.pragma('synchronous', { simple: true });
const [normal, full] = [1, 2];
const canTrace = await hasTool('strace', '-V');

describe('a durable transaction', () => {
  it('is synced, and nothing after it', () => {
    const { db } = open();
    expect(durably(db, () => synchronous(db))).toBe(full);
    expect(synchronous(db)).toBe(normal);
    // One within another one belongs to it.
    expect(durably(db, () => durably(db, () => [synchronous(db), db.inTransaction]))).toEqual([full, true]);
    expect(() =>
      durably(db, () => {
        throw new Error('no');
      }),
    ).toThrow('no');
    expect([synchronous(db), db.inTransaction]).toEqual([normal, false]);
    db.close();
  });

  it.skipIf(!canTrace)('calls fdatasync before it returns', async () => {
    const { root } = open();
    const face = (file: string) => JSON.stringify(new URL(`../../dist/state/${file}`, import.meta.url).href);
    const script = `
      import { writeSync } from 'node:fs';
      const { openState } = await import(${face('state.js')});
      const { snapshots } = openState(${JSON.stringify(root)});
      const row = (key) => ({ key, kind: 'active', labels: { a: 'b' } });
      snapshots.insert(row('warm'));
      writeSync(1, 'one\\n');
      const id = snapshots.insert(row('k'));
      writeSync(1, 'two\\n');
      snapshots.putUsage(id, { size: 1, inodes: 1 });
      writeSync(1, 'three\\n');`;
    const trace = path.join(root, 'trace');
    const args = [
      '-f',
      '-e',
      'trace=fdatasync,fsync,write',
      '-o',
      trace,
      process.execPath,
      '--input-type=module',
      '-e',
    ];
    await runOk('strace', [...args, script]);
    const text = await runOk('cat', [trace]);
    const between = (from: string, to: string) => text.slice(text.indexOf(`"${from}\\n"`), text.indexOf(`"${to}\\n"`));
    expect(between('one', 'two')).toMatch(/f(data)?sync\(\d+\) += 0/);
    expect(between('two', 'three')).not.toMatch(/sync/);
  });
});

describe('the table of snapshots', () => {
  it('gives back what was put in', () => {
    const { db, table } = open();
    const labels = { a: '1', 'nul\0': '\0', __proto__: 'own' };
    const base = table.insert({ key: 'base', kind: 'committed', labels }, 1000);
    const id = table.insert(
      { key: 'a', kind: 'active', parent: base, labels: {}, image: 'i:1', reason: 'no index' },
      2000,
    );
    expect(table.get('a')).toEqual({
      id,
      key: 'a',
      parent: { id: base, key: 'base' },
      kind: 'active',
      slot: undefined,
      image: 'i:1',
      layer: undefined,
      reason: 'no index',
      unpacked: false,
      unsynced: undefined,
      size: undefined,
      inodes: undefined,
      createdAt: 2000,
      updatedAt: 2000,
      labels: {},
    });
    expect(table.list()).toEqual([table.get('base'), table.get('a')]);
    expect(table.get('base')?.labels).toEqual(labels);
    expect(table.labelled('nul\0', '\0').map(({ key }) => key)).toEqual(['base']);
    expect(table.labelled('nul', '\0')).toEqual([]);
    expect(table.chain(id).map((each) => each.id)).toEqual([id, base]);
    expect(table.hasChildren(base)).toBe(true);
    table.commit(id, { key: 'b', labels: { x: 'y' } }, 3000);
    expect(table.get('b')).toMatchObject({
      kind: 'committed',
      createdAt: 3000,
      reason: 'no index',
      labels: { x: 'y' },
    });
    expect(table.leftToContainerd()).toMatchObject([{ key: 'b', image: 'i:1', reason: 'no index' }]);
    expect(table.counts()).toEqual({ view: 0, active: 0, committed: 2 });
    db.close();
  });

  it('keeps a parent while it has children, and takes labels with their snapshot', () => {
    const { db, table } = open();
    const base = table.insert({ key: 'base', kind: 'committed', labels: { a: '1' } });
    const child = table.insert({ key: 'child', kind: 'active', parent: base, labels: { a: '1' } });
    expect(() => table.delete(base)).toThrow(/FOREIGN KEY/);
    table.delete(child);
    table.delete(base);
    expect(db.prepare('SELECT count(*) AS n FROM snapshot_labels').get()).toEqual({ n: 0 });
    // A number is never given again.
    expect(table.insert({ key: 'next', kind: 'active', labels: {} })).toBe(child + 1);
    db.close();
  });

  it('makes no half of a row', () => {
    const { db, table } = open();
    const unbindable = { a: '1', b: Symbol('no') as unknown as string };
    expect(() => table.insert({ key: 'x', kind: 'active', labels: unbindable })).toThrow(TypeError);
    expect(() => table.insert({ key: 'x', kind: 'active', labels: {}, slot: 77 })).toThrow(/FOREIGN KEY/);
    expect(table.list()).toEqual([]);
    const id = table.insert({ key: 'x', kind: 'active', labels: { a: '1' } });
    expect(() => table.replaceLabels(id, unbindable)).toThrow(TypeError);
    expect(table.get('x')?.labels).toEqual({ a: '1' });
    db.close();
  });
});
