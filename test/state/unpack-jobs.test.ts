import path from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { parseDigest } from '../../src/oci/digest.ts';
import { openDatabase } from '../../src/state/database.ts';
import { UnpackJobTable } from '../../src/state/unpack-jobs.ts';
import type { NewUnpackJob } from '../../src/state/unpack-jobs.ts';
import { byteStringFrom } from '../../src/util/byte-string.ts';
import { tempDir } from '../support/tmp.ts';

const [a, b] = ['a', 'b'].map((hex) => parseDigest(`sha256:${hex.repeat(64)}`)) as [never, never];
const subject: NewUnpackJob = { layer: a, diffId: b, form: 'overlay', size: 77, mediaType: 'x/y', image: 'app:1' };

function open(): UnpackJobTable {
  const db = openDatabase(path.join(tempDir('peel-state-'), 'peel.db'));
  onTestFinished(() => void db.close());
  return new UnpackJobTable(db);
}

describe('the table of unpack jobs', () => {
  it('gives back what was put in', () => {
    const table = open();
    const job = table.insert(subject, 1000);
    const row = { ...subject, job, state: 'in_progress', createdAt: 1000, updatedAt: 1000 };
    const empty = { implied: undefined, hiding: undefined, boot: undefined, code: undefined, cause: undefined };
    expect(table.get(job)).toEqual({ ...row, ...empty });
    const implied = [byteStringFrom(Buffer.from('')), byteStringFrom(Buffer.from([0x61, 0x2f, 0xff, 0x22, 0x0a]))];
    expect(table.change(job, ['in_progress'], { state: 'done', implied, hiding: implied, boot: 'x' }, 2000)).toBe(true);
    table.touch(job, 'app:2', 3000);
    expect(table.list()).toEqual([
      { ...row, ...empty, state: 'done', implied, hiding: implied, boot: 'x', image: 'app:2', updatedAt: 3000 },
    ]);
    // What is not named is empty.
    expect(table.change(job, ['done'], { state: 'failed', code: 'E', cause: 'why' }, 4000)).toBe(true);
    expect(table.get(job)).toMatchObject({ ...empty, state: 'failed', code: 'E', cause: 'why', updatedAt: 4000 });
    expect([table.delete(job), table.delete(job), table.get(job)]).toEqual([true, false, undefined]);
    expect(table.insert(subject)).toBe(job + 1);
  });

  it('changes a job only from the states that are said', () => {
    const table = open();
    const job = table.insert(subject, 1000);
    expect(table.change(job, ['done', 'failed'], { state: 'claimed' }, 2000)).toBe(false);
    expect(table.change(job + 1, ['in_progress'], { state: 'claimed' }, 2000)).toBe(false);
    expect(table.get(job)).toMatchObject({ state: 'in_progress', updatedAt: 1000 });
    expect(table.change(job, ['done', 'in_progress'], { state: 'cancelled' }, 2000)).toBe(true);
  });

  it('finds jobs that make the same, newest first', () => {
    const table = open();
    const first = table.insert(subject);
    for (const other of [{ layer: b }, { diffId: a }, { form: 'plain' as const }, { size: 78 }]) {
      table.insert({ ...subject, ...other });
    }
    const last = table.insert({ ...subject, image: 'other:1', mediaType: 'other' });
    expect(table.of(subject).map(({ job }) => job)).toEqual([last, first]);
    expect(table.list()).toHaveLength(6);
  });
});
