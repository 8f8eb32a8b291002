import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Sqlite from 'better-sqlite3';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseDigest } from '../../src/oci/digest.ts';
import { migrations } from '../../src/state/schema.ts';
import type { State } from '../../src/state/state.ts';
import { openState } from '../../src/state/state.ts';

const a = parseDigest(`sha256:${'a'.repeat(64)}`);
const b = parseDigest(`sha256:${'b'.repeat(64)}`);

let root: string;
const open: State[] = [];
function state(): State {
  const opened = openState(root);
  open.push(opened);
  return opened;
}
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'peel-state-'));
});
afterEach(() => {
  for (const each of open.splice(0)) each.close();
  rmSync(root, { recursive: true });
});

const mount = {
  id: 'm1',
  dir: '/mnt',
  reference: 'r',
  digest: a,
  transport: 'native',
  why: 'w',
  writable: false,
  fill: true,
  readAhead: false,
  upper: undefined,
  pid: 1,
  pidStart: '1',
  boot: 'x',
  log: undefined,
  mountedAt: 5,
  daemon: true,
  error: 'gone',
  layers: [a, b],
};

describe('state', () => {
  it('keeps what a reference resolved to across opens', () => {
    state().images.put('docker.io/library/x:1', { mediaType: 'm', digest: a, size: 3 });
    expect(state().images.get('docker.io/library/x:1')?.descriptor).toEqual({ mediaType: 'm', digest: a, size: 3 });
    expect(state().images.get('docker.io/library/x:2')).toBeUndefined();
  });

  it('tells an index that was not found from one never looked for', () => {
    const { indexes } = state();
    expect(indexes.get(a, 'soci')).toBeUndefined();
    indexes.put({ image: a, kind: 'soci', digest: undefined, format: undefined, source: 'referrers' });
    indexes.put({ image: b, kind: 'soci', digest: a, format: 'soci-v1', source: 'referrers' });
    expect(indexes.get(a, 'soci')).toMatchObject({ digest: undefined });
    expect(indexes.list().map((row) => row.image)).toEqual([b]);
    expect(indexes.deleteByDigest(a)).toBe(1);
    expect(indexes.get(b, 'soci')).toBeUndefined();
  });

  it('takes over the indexes of a database from before an image could have several', () => {
    const raw = new Sqlite(join(root, 'peel.db'));
    for (const sql of migrations.slice(0, 4)) raw.exec(sql);
    raw.pragma('user_version = 4');
    const insert = raw.prepare('INSERT INTO indexes VALUES (?, ?, ?, ?, ?)');
    insert.run(a, b, 'soci-v2', 'annotation of the image manifest', 5);
    insert.run(b, null, null, 'referrers', 6);
    raw.close();
    const { indexes } = state();
    const source = 'annotation of the image manifest';
    expect(indexes.list()).toEqual([{ image: a, kind: 'soci', digest: b, format: 'soci-v2', source, foundAt: 5 }]);
    expect(indexes.get(b, 'soci')).toMatchObject({ digest: undefined, format: undefined, foundAt: 6 });
    expect(indexes.get(a, 'peel')).toBeUndefined();
    indexes.put({ image: a, kind: 'peel', digest: a, format: 'peel', source: 'made' });
    expect(indexes.list().map(({ kind }) => kind)).toEqual(['peel', 'soci']);
  });

  it('lists layers least recently used first and remembers a suspicion', () => {
    const { layers } = state();
    const row = {
      mediaType: 'm',
      size: 1,
      diffId: a,
      streamSize: 2,
      indexFormat: 'node' as const,
      indexDigest: undefined,
      indexSource: 's',
      reason: 'r',
    };
    layers.put({ ...row, digest: a });
    layers.put({ ...row, digest: b });
    layers.touch([a], Date.now() + 1000);
    layers.markSuspect(b, 'diffID');
    expect(layers.list().map((each) => [each.digest, each.suspect])).toEqual([
      [b, 'diffID'],
      [a, undefined],
    ]);
  });

  it('removes the pins of a mount with the mount', () => {
    const { mounts } = state();
    mounts.put(mount);
    expect(mounts.at('/mnt')).toEqual([mount]);
    expect(mounts.delete('m1')).toBe(true);
    expect(mounts.list()).toEqual([]);
    const raw = new Sqlite(join(root, 'peel.db'));
    expect(raw.prepare('SELECT count(*) AS n FROM mount_layers').get()).toEqual({ n: 0 });
    raw.close();
  });

  it('refuses a database of a newer version and a file that is none', () => {
    state();
    const raw = new Sqlite(join(root, 'peel.db'));
    raw.pragma('user_version = 99');
    raw.close();
    expect(() => openState(root)).toThrow(expect.objectContaining({ code: 'ERR_STATE_VERSION' }));
    const other = mkdtempSync(join(root, 'x'));
    writeFileSync(join(other, 'peel.db'), 'not a database, but long enough to be read as one'.repeat(100));
    expect(() => openState(other)).toThrow(expect.objectContaining({ code: 'ERR_STATE_OPEN' }));
  });

  it('is upgraded once when four processes start at the same time', () => {
    const face = new URL('../../dist/state/state.js', import.meta.url).href;
    const script = `const { openState } = await import(${JSON.stringify(face)});
      const s = openState(process.argv[2]);
      for (let i = 0; i < 50; i++) s.images.put(process.pid + ':' + i, { mediaType: 'm', digest: '${a}', size: i });
      s.close();`;
    writeFileSync(join(root, 'run.mjs'), script);
    execFileSync('sh', [
      '-c',
      `for i in 1 2 3 4; do ${process.execPath} ${root}/run.mjs ${root} & done; for j in 1 2 3 4; do wait %$j || exit 1; done`,
    ]);
    expect(state().images.list()).toHaveLength(200);
  });
});
