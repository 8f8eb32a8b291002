import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { silentLog } from '../../src/observe/log.ts';
import { SnapshotSync } from '../../src/snapshotter/snapshot-sync.ts';
import { openState } from '../../src/state/state.ts';
import { Deferred } from '../../src/util/deferred.ts';
import { syncFilesystem } from '../../src/native/sys.ts';
import { tempDir } from '../support/tmp.ts';

function world(sync: (path: string) => Promise<void>) {
  const root = tempDir('peel-sync-');
  const state = openState(root);
  onTestFinished(() => state.close());
  const table = state.snapshots;
  let last = 0;
  const add = (boot: string) =>
    table.insert({ key: `${(last += 1)}`, kind: 'committed', labels: {}, unpacked: true, unsynced: boot });
  const times = { quietMs: 40, atMostMs: 120 };
  const make = () => {
    const made = new SnapshotSync({ table, root, boot: 'b', syncFilesystem: sync, log: silentLog(), ...times });
    onTestFinished(() => made.close());
    return made;
  };
  return { root, table, add, make };
}

describe('what was unpacked', () => {
  it('is written to disk together some time later, and of this boot only', async () => {
    const seen: string[] = [];
    const { root, table, add, make } = world(async (path) => {
      await syncFilesystem(path);
      seen.push(path);
    });
    const sync = make();
    add('a');
    const ids = [add('b'), add('b')];
    for (let i = 0; i < 3; i += 1) sync.written();
    expect(table.unsynced('b')).toEqual(ids);
    await expect.poll(() => table.unsynced('b')).toEqual([]);
    expect(seen).toEqual([root]);
    expect(table.unsynced('a')).toHaveLength(1);
  });

  it('is not put off for ever', async () => {
    let syncs = 0;
    const { add, make } = world(async () => void (syncs += 1));
    const sync = make();
    for (let i = 0; i < 20; i += 1) {
      if (syncs > 0) break;
      add('b');
      sync.written();
      await delay(20);
    }
    expect(syncs).toBe(1);
  });

  it('keeps its mark when it came while others were written, or when that failed', async () => {
    const [begun, go] = [new Deferred<void>(), new Deferred<void>()];
    let syncs = 0;
    const { table, add, make } = world(async () => {
      if ((syncs += 1) === 2) throw new Error('no disk');
      begun.resolve();
      await go.promise;
    });
    const sync = make();
    add('b');
    const flushed = sync.flush();
    await begun.promise;
    const late = add('b');
    go.resolve();
    await flushed;
    expect(table.unsynced('b')).toEqual([late]);
    await sync.flush();
    expect(table.unsynced('b')).toEqual([late]);
    await sync.close();
    expect(table.unsynced('b')).toEqual([]);
  });

  it('by a process that was killed is written by the next one', async () => {
    let syncs = 0;
    const { table, add, make } = world(async () => void (syncs += 1));
    add('b');
    make();
    await expect.poll(() => table.unsynced('b')).toEqual([]);
    expect(syncs).toBe(1);
  });
});
