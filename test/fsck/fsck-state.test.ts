// What fsck says of the database, of unpack jobs, and of layers whose files contradict one another.
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Sqlite from 'better-sqlite3';
import { describe, expect, it } from 'vitest';
import type { Node } from '../../src/daemon/node.ts';
import type { Digest } from '../../src/oci/digest.ts';
import { check, fill, situation, withLayer } from '../support/checked-node.ts';
import { flipBit } from '../support/flip-bit.ts';

/** Statements on the node's database, which it would never make; each list over a connection of its own. */
function change(node: Node, ...turns: readonly (readonly string[])[]): void {
  for (const statements of turns) {
    const database = new Sqlite(join(node.paths.root, 'peel.db'));
    database.unsafeMode();
    database.pragma('writable_schema = 1');
    database.pragma('foreign_keys = 0');
    for (const statement of statements) database.exec(statement);
    database.close();
  }
}

const digestOf = (letter: string) => `sha256:${letter.repeat(64)}` as Digest;

describe('fsck of the database', () => {
  it('finds rows that are damaged or refer to nothing, and lets go what can be learned again', async () => {
    const { node } = await situation();
    change(node, [
      `INSERT INTO ztocs (layer, size, span_size) VALUES ('nonsense', 1, 1)`,
      `INSERT INTO mount_layers (mount, layer) VALUES ('none', '${digestOf('a')}')`,
    ]);
    const { text } = await check(node, { repair: true });
    expect(text).toMatch(/database: layer is no digest: deleted/);
    expect(text).toMatch(/database: a row of mount_layers \(no id\) refers to no row of mounts: \n?/);
    expect((await check(node)).text).not.toMatch(/is no digest/);
  });

  it('makes indexes anew that have not all rows', async () => {
    const { node } = await situation();
    const [name, sql, page] = [
      'slots_layer',
      'CREATE INDEX slots_layer ON slots (layer)',
      `(SELECT min(page) FROM kept)`,
    ];
    change(
      node,
      [
        `CREATE TABLE kept AS SELECT rootpage AS page FROM sqlite_schema WHERE name = '${name}'`,
        `DELETE FROM sqlite_schema WHERE name = '${name}'`,
        'PRAGMA schema_version = 1000',
      ],
      [`INSERT INTO slots (tree, layer, reason, created_at) VALUES ('t', '${digestOf('a')}', 'r', 1)`],
      [
        `INSERT INTO sqlite_schema VALUES ('index', '${name}', 'slots', ${page}, '${sql}')`,
        'DROP TABLE kept',
        'PRAGMA schema_version = 1001',
      ],
    );
    expect((await check(node)).text).toMatch(/database: .*missing from index slots_layer/);
    expect((await check(node, { repair: true })).text).toMatch(/slots_layer: its indexes were made anew/);
    expect(await check(node)).toMatchObject({ verdict: 'clean' });
  });

  it('finds what snapshots show and is not there', async () => {
    const { node } = await situation();
    const slot = node.state.slots.claim({ tree: 't', layer: digestOf('b'), reason: 'r' });
    change(node, [
      `INSERT INTO snapshots (key, kind, slot, created_at, updated_at) VALUES ('shows', 'committed', ${slot}, 1, 1)`,
      `INSERT INTO snapshots (key, kind, created_at, updated_at) VALUES ('own', 'active', 1, 1)`,
    ]);
    const { text } = await check(node, { repair: true });
    expect(text).toMatch(/snapshot: snapshots show it, and its files are gone/);
    expect(text).toMatch(/snapshot: its directory is gone/);
    node.state.slots.setError(slot, 'not restored: for a reason');
    expect((await check(node)).text).toMatch(/snapshot: not restored: for a reason/);
  });
});

describe('fsck of unpack jobs', () => {
  it('forgets those without a folder or a tree, and removes folders without a job', async () => {
    const { node } = await situation();
    const subject = { layer: digestOf('c'), diffId: digestOf('d'), form: 'overlay', size: 1 } as const;
    const insert = () => node.state.unpackJobs.insert({ ...subject, mediaType: 'm', image: 'i' });
    const [gone, treeless, right] = [insert(), insert(), insert()] as const;
    const folders = join(node.paths.root, 'unpack');
    for (const job of [treeless, right, 1000])
      mkdirSync(join(folders, job.toString(36)), { recursive: true, mode: 0o700 });
    mkdirSync(join(folders, right.toString(36), 'fs'));
    for (const job of [treeless, right]) node.state.unpackJobs.change(job, ['in_progress'], { state: 'done' });
    const seen = await check(node);
    expect(seen.text).toMatch(/job: its folder is gone/);
    expect(seen.text).toMatch(/job: its tree is gone although it is done/);
    expect(seen.text).toMatch(/job: a folder that no job has/);
    expect(seen.findings).toHaveLength(3);
    expect(node.state.unpackJobs.list()).toHaveLength(3);
    expect(await check(node, { repair: true })).toMatchObject({ verdict: 'repaired' });
    expect(node.state.unpackJobs.list().map(({ job }) => job)).toEqual([right]);
    expect(existsSync(join(folders, (1000).toString(36)))).toBe(false);
    expect(node.state.unpackJobs.get(gone)).toBeUndefined();
    expect((await check(node)).findings.filter(({ place }) => place === 'job')).toEqual([]);
  });
});

describe('fsck of a layer', () => {
  it('finds an index of another blob, one with a window that is damaged, and leftovers', async () => {
    const s = await situation({ compression: 'gzip', indexed: false });
    await fill(s);
    const { node, paths } = s;
    // Under another name it is the same layer.
    const other = node.imageDeps.layers.paths(digestOf('e'));
    mkdirSync(other.dir);
    for (const name of ['index', 'data', 'present', 'sums'])
      writeFileSync(join(other.dir, name), readFileSync(join(paths.dir, name)));
    const left = node.imageDeps.layers.paths(digestOf('f'));
    mkdirSync(left.dir);
    writeFileSync(left.data, 'left');
    const { text } = await check(node);
    expect(text).toMatch(new RegExp(`layer: its index describes the blob ${s.layer.descriptor.digest}`));
    expect(text).toMatch(/layer: it has no index file/);
    expect(await check(node, { repair: true })).toMatchObject({ verdict: 'repaired' });
    expect([existsSync(other.dir), existsSync(left.dir), existsSync(paths.dir)]).toEqual([false, false, true]);
    flipBit(paths.index, readFileSync(paths.index).length - 40);
    expect((await check(node)).text).toMatch(/layer: index file .* is damaged/);
  });

  it('trusts no span whose checksum is gone, and no bitmap of another file', async () => {
    const s = await situation();
    await withLayer(s, async (layer) => {
      await layer.read(0, 300_000);
      await layer.cache.sync();
      writeFileSync(join(s.paths.dir, 'sums'), '');
      expect((await check(s.node)).text).toMatch(/layer: 5 of \d+ spans have wrong bytes/);
    });
    const bytes = readFileSync(s.paths.data);
    rmSync(s.paths.data);
    writeFileSync(s.paths.data, bytes);
    expect((await check(s.node)).text).toMatch(/layer: its bitmap is of another index or another data file/);
    expect(await check(s.node, { repair: true })).toMatchObject({ verdict: 'repaired' });
    expect(await check(s.node)).toMatchObject({ verdict: 'clean' });
  });

  it('finds a whole that is not what the images say, and distrusts it until it is made anew', async () => {
    const s = await situation();
    await fill(s);
    // Two spans in each other's place, with their checksums.
    for (const [name, size] of [
      ['data', 64 << 10],
      ['sums', 8],
    ] as const) {
      const file = join(s.paths.dir, name);
      const bytes = readFileSync(file);
      const [one, two] = [1, 2].map((span) => Buffer.from(bytes.subarray(span * size, (span + 1) * size)));
      two?.copy(bytes, size);
      one?.copy(bytes, 2 * size);
      writeFileSync(file, bytes);
    }
    const { layers } = s.node.state;
    const { digest } = s.layer.descriptor;
    const { text, verdict } = await check(s.node, { repair: true });
    expect(text).toMatch(new RegExp(`layer: its stream is .*, and its images say ${s.layer.diffId}`));
    expect(verdict).toBe('left');
    expect(layers.get(digest)?.suspect).toMatch(/its stream is/);
    expect((await check(s.node)).text).toMatch(/layer: it cannot be trusted: its stream is/);
    expect((await check(s.node, { repair: true })).text).toMatch(
      /layer: it cannot be trusted: its stream is .*: removed/,
    );
    expect(existsSync(s.paths.dir)).toBe(false);
  });
});
