// The commands that look into an image, compared with what other programs say of the same image unpacked.
import { readFileSync } from 'node:fs';
import { chmod, chown, cp, lstat, mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Digest } from '../../src/oci/digest.ts';
import { makeFixture } from '../support/fixtures.ts';
import { buildImage, writeLayout } from '../support/image-builder.ts';
import { ImageLab, labLayer } from '../support/image-lab.ts';
import { listTree, treeDifference } from '../support/list-tree.ts';
import { pushPeelIndex } from '../support/peel-index.ts';
import { PeelNode } from '../support/peel-node.ts';
import { unpackWithUmoci } from '../support/reference-tree.ts';
import { peelMain, run, runOk } from '../support/run.ts';
import { tarOf } from '../support/tar-members.ts';

interface JsonNode {
  path: string;
  type: string;
  mode: string;
  uid: number;
  gid: number;
  size: number;
}

// Each command line ends with nothing open, or the next one would find it busy.
const node = new PeelNode();
const image = `oci:${node.dir}/layout:all`;
const older = `oci:${node.dir}/older:three`;
let tree = '';
let olderTree = '';

beforeAll(async () => {
  const tars = await makeFixture('zoo', path.join(node.dir, 'tars'));
  const sources = tars.map((tar) => ({ tar, compression: 'gzip' as const }));
  await writeLayout(path.join(node.dir, 'layout'), 'all', await buildImage(path.join(node.dir, 'blobs'), sources));
  const three = await buildImage(path.join(node.dir, 'older-blobs'), sources.slice(0, 3));
  await writeLayout(path.join(node.dir, 'older'), 'three', three);
  tree = await unpackWithUmoci(path.join(node.dir, 'reference'), tars);
  olderTree = await unpackWithUmoci(path.join(node.dir, 'older-reference'), tars.slice(0, 3));
});
afterAll(() => node.close());

async function expectSameTree(actual: string): Promise<void> {
  expect(treeDifference(await listTree(actual), await listTree(tree))).toBe('');
}

describe('ls', () => {
  it.each(['/', '/bin', '/links', '/many', '/time', '/xattr'])('-l prints %s as ls -ln does', async (dir) => {
    const expected = await runOk('ls', ['-lnA', '--time-style=long-iso', path.join(tree, dir)], {
      env: { LC_ALL: 'C' },
    });
    const fields = (text: string): string[][] =>
      text
        .split('\n')
        .filter((line) => line !== '' && !line.startsWith('total '))
        .map((line) => line.split(/\s+/))
        // A directory's size is a property of the file system that holds it.
        .map((columns) => (columns[0]?.startsWith('d') ? columns.with(4, '-') : columns));
    expect(fields(await node.ok(['ls', '-l', image, dir]))).toEqual(fields(expected));
  });

  it('aligns its columns', async () => {
    const lines = (await node.ok(['ls', '-l', image, '/bin'])).trimEnd().split('\n');
    expect(new Set(lines.map((line) => line.search(/ \d{4}-\d\d-\d\d /))).size).toBe(1);
  });

  it('-R lists every directory under its name', async () => {
    const out = await node.ok(['ls', '-R', image, '/hidden', '/bin']);
    expect(out).toMatch(/^\/hidden:\nnew\n\n\/bin:\nacross\nblock\n/);
  });

  it('shows names that are not UTF-8, or have control characters, with escapes', async () => {
    const out = await node.ok(['ls', image, '/names']);
    expect(out).toContain('latin1-\\xe9\\xff\n');
    expect(out).toContain('new\\x0aline\n');
    expect(out).toContain('café\n');
  });

  it('names the path that does not exist', async () => {
    expect(await node.peel(['ls', image, '/nothing'])).toMatchObject({
      code: 1,
      out: '',
      err: expect.stringContaining('/nothing: no such file'),
    });
  });
});

describe('find', () => {
  it('finds what find finds', async () => {
    const found = (await node.ok(['find', image, '/many/*1*', '--type', 'f'])).trimEnd().split('\n');
    const expected = await runOk('find', [
      path.join(tree, 'many'),
      '-maxdepth',
      '1',
      '-name',
      '*1*',
      '-type',
      'f',
      '-printf',
      '/many/%P\n',
    ]);
    expect(found).toEqual(expected.trimEnd().split('\n').sort());
  });

  it('lists every name with **', async () => {
    const all = await node.json<JsonNode[]>(['find', image, '/**']);
    expect(all).toHaveLength((await listTree(tree)).length - 1);
  });
});

describe('cat', () => {
  it('writes bytes as they are, of several files in order, through symlinks', async () => {
    const { stdout } = await node.alone(['cat', image, '/bin/setuid', '/links/absolute']);
    const expected = [await readFile(path.join(tree, 'bin/setuid')), Buffer.from('hard\n')];
    expect(stdout.equals(Buffer.concat(expected))).toBe(true);
  });

  it('takes a name as ls shows it', async () => {
    const { stdout } = await node.peel(['cat', image, '/names/latin1-\\xe9\\xff']);
    expect(stdout.toString('latin1')).toBe('I am latin1-\xe9\xff');
  });

  it('ends quietly when its reader has seen enough', async () => {
    const script = `"$1" "$2" cat "$3" /big | head -c 3 | wc -c; echo "\${PIPESTATUS[0]}"`;
    const { out, err } = await run('bash', ['-c', script, 'bash', process.execPath, peelMain, image], {
      env: node.env,
    });
    expect([out, err]).toEqual(['3\n0\n', '']);
  });

  it('gives a slow reader all of it', async () => {
    const script = `"$1" "$2" cat "$3" /big | (sleep 1; sha256sum)`;
    const { out } = await run('bash', ['-c', script, 'bash', process.execPath, peelMain, image], { env: node.env });
    expect(out.slice(0, 64)).toBe((await runOk('sha256sum', [path.join(tree, 'big')])).slice(0, 64));
  });

  it.each([
    ['/bin', /is a directory/],
    ['/dev/null', /not a regular file/],
    ['/links/escaping', /no such file/],
    ['/gone/deep/er/file', /no such file/],
  ])('refuses %s before it writes anything', async (name, reason) => {
    const { code, out, err } = await node.peel(['cat', image, '/bin/one', name]);
    expect([code, out]).toEqual([1, '']);
    expect(err).toMatch(reason);
  });
});

describe('du, stat, tree', () => {
  it('du counts a file with several names once', async () => {
    const [sum] = await node.json<{ bytes: number }[]>(['du', '-s', '-b', image]);
    const lines = (await runOk('find', [tree, '-not', '-type', 'd', '-printf', '%i %s\n'])).trimEnd().split('\n');
    const expected = [...new Set(lines)].reduce((total, line) => total + Number(line.split(' ')[1]), 0);
    expect(sum?.bytes).toBe(expected);
  });

  it('du prints directories after what is in them', async () => {
    const paths = (await node.ok(['du', image, '/deep']))
      .trimEnd()
      .split('\n')
      .map((line) => line.split('\t')[1] ?? '');
    expect(paths.at(-1)).toBe('/deep');
    expect(paths[0]?.length).toBeGreaterThan(250);
  });

  it('stat shows attributes, xattrs and the layer', async () => {
    const out = await node.ok(['stat', image, '/xattr/capability', '/time/ns']);
    expect(out).toMatch(/ Mode: 0755 -rwxr-xr-x\n/);
    expect(out).toMatch(/ Xattr: security\.capability=0x[0-9a-f]{40}\n/);
    expect(out).toMatch(/Modify: 2009-02-13T23:31:30\.123456789Z\n/);
    expect(out).toMatch(/ Layer: sha256:[0-9a-f]{64}\n/);
  });

  it('tree draws branches and counts', async () => {
    const out = await node.ok(['tree', '-L', '1', image, '/hidden']);
    expect(out).toBe('/hidden\n└── new\n\n0 directories, 1 file\n');
  });
});

describe('tar', () => {
  it('makes the archive that unpacks to the same tree', async () => {
    const dir = await node.newDir('from-tar');
    const flags = '--xattrs --xattrs-include=* --same-owner --numeric-owner -p';
    const script = `"$1" "$2" tar "$3" | tar -x ${flags} -C "$4"`;
    await runOk('bash', ['-o', 'pipefail', '-c', script, 'bash', process.execPath, peelMain, image, dir], {
      env: node.env,
    });
    await expectSameTree(dir);
  });

  it('says nothing while it reads many files ahead', async () => {
    const made = await node.alone(['tar', image, '-o', path.join(node.dir, 'made.tar')]);
    expect([made.code, made.err]).toEqual([0, '']);
  });

  it('leaves no file behind when it cannot finish, and does not overwrite one', async () => {
    const file = path.join(node.dir, 'there.tar');
    await writeFile(file, 'mine');
    expect(await node.peel(['tar', image, '-o', file])).toMatchObject({
      code: 1,
      err: expect.stringContaining('exists already'),
    });
    expect(await readFile(file, 'utf8')).toBe('mine');
  });
});

describe('cp', () => {
  it('copies the whole image with everything, as root', async () => {
    const dir = await node.newDir('copied');
    await node.ok(['cp', `${image}:/`, path.join(dir, 'new')]);
    await expectSameTree(path.join(dir, 'new'));
  });

  it('names the copy like cp does: a new name, or into a directory that exists', async () => {
    const dir = await node.newDir('names');
    await node.ok(['cp', `${image}:/links/target`, path.join(dir, 'renamed')]);
    await node.ok(['cp', `${image}:/links/target`, dir]);
    await node.ok(['cp', `${image}:/hidden`, path.join(dir, 'new-dir')]);
    await node.ok(['cp', `${image}:/hidden`, dir]);
    const found = (await runOk('find', [dir, '-type', 'f', '-printf', '%P\n'])).trimEnd().split('\n').sort();
    expect(found).toEqual(['hidden/new', 'new-dir/new', 'renamed', 'target']);
  });

  it('replaces a symlink by a symlink', async () => {
    const copy = path.join(await node.newDir('links'), 'absolute');
    for (let i = 0; i < 2; i++) await node.ok(['cp', `${image}:/links/absolute`, copy]);
    expect((await lstat(copy)).isSymbolicLink()).toBe(true);
  });

  it.each([
    ['/proc/copy', /^peel: \/proc\/copy: cannot write \/bin there: no such file or directory\n$/],
    ['/proc/none/copy', /^peel: \/proc\/none: cannot copy to there: no such file or directory\n$/],
  ])('names the destination that cannot be written: %s', async (destination, message) => {
    const { code, err } = await node.peel(['cp', `${image}:/bin`, destination]);
    expect(code).toBe(1);
    expect(err).toMatch(message);
  });

  it('never writes through a symlink at the destination', async () => {
    const [dir, outside] = [await node.newDir('trap'), await node.newDir('outside')];
    await symlink(outside, path.join(dir, 'hidden'));
    await symlink(path.join(outside, 'written'), path.join(dir, 'dangling'));
    await mkdir(path.join(dir, 'bin'));
    await writeFile(path.join(outside, 'victim'), 'untouched');
    await symlink(path.join(outside, 'victim'), path.join(dir, 'bin', 'one'));
    expect(await node.peel(['cp', `${image}:/hidden`, dir])).toMatchObject({
      code: 1,
      err: expect.stringContaining('not a directory'),
    });
    expect(await node.peel(['cp', `${image}:/bin/one`, path.join(dir, 'dangling')])).toMatchObject({ code: 1 });
    await node.ok(['cp', `${image}:/bin`, dir]);
    expect((await lstat(path.join(dir, 'bin', 'one'))).isFile()).toBe(true);
    expect(await readFile(path.join(outside, 'victim'), 'utf8')).toBe('untouched');
    expect((await runOk('ls', [outside])).trim()).toBe('victim');
  });

  it('as an ordinary user keeps modes without setuid, skips devices and says so', async () => {
    const home = await node.newDir('home');
    await chmod(node.dir, 0o755);
    await cp(path.join(node.dir, 'layout'), path.join(home, 'layout'), { recursive: true });
    await runOk('chown', ['-R', '65534:65534', home]);
    await chown(home, 65534, 65534);
    const asUser = ['--reuid=65534', '--regid=65534', '--clear-groups', process.execPath, peelMain];
    const copied = path.join(home, 'copied');
    const env = { HOME: home, PEEL_ROOT: path.join(home, 'root'), PEEL_RUN_DIR: path.join(home, 'run') };
    for (const part of ['bin', 'dev', 'links']) {
      const result = await run('setpriv', [...asUser, 'cp', `oci:${home}/layout:all:/${part}`, `${copied}-${part}`], {
        env,
      });
      expect(result).toMatchObject({ code: 0 });
      if (part === 'dev') expect(result.err).toContain('/dev/null: skipped, only root may make a device');
    }
    const { mode, uid } = await lstat(`${copied}-bin/setuid`);
    expect([mode & 0o7777, uid]).toEqual([0o755, 65534]);
    expect(await readFile(`${copied}-links/third-layer`, 'utf8')).toBe('hard\n');
  });
});

describe('diff', () => {
  it('says what the listings of both trees say', async () => {
    const names = async (dir: string): Promise<Map<string, string[]>> =>
      new Map((await listTree(dir)).map((line) => line.split('\t')).map(([name = '', ...rest]) => [name, rest]));
    const [before, after] = [await names(olderTree), await names(tree)];
    const changed = (name: string): boolean => {
      // Not the time, the link count and the inode group, nor a directory's size.
      const pick = (fields: string[] = []): unknown => [
        fields.slice(0, 4),
        fields[0] === 'file' ? fields[5] : '',
        fields.slice(8),
      ];
      return JSON.stringify(pick(before.get(name))) !== JSON.stringify(pick(after.get(name)));
    };
    const expected = [
      ...[...before.keys()].filter((name) => !after.has(name)).map((name) => `D /${name}`),
      ...[...after.keys()].filter((name) => !before.has(name)).map((name) => `A /${name}`),
      ...[...after.keys()]
        .filter((name) => before.has(name) && name !== '.' && changed(name))
        .map((name) => `M /${name}`),
    ];
    const found = (await node.ok(['diff', older, image])).trimEnd().split('\n');
    expect(found.toSorted()).toEqual(expected.toSorted());
    expect(found.length).toBeGreaterThan(100);
  });

  it('finds nothing between an image and itself', async () => {
    expect(await node.json(['diff', image, image])).toEqual([]);
  });
});

describe('inspect', () => {
  it('says of every layer how it is served and why', async () => {
    const report = await node.json<{ manifest: { layers: unknown[] }; layers: { serving: string; reason: string }[] }>([
      'inspect',
      image,
    ]);
    expect(report.layers).toHaveLength(report.manifest.layers.length);
    for (const layer of report.layers)
      expect(layer).toMatchObject({ serving: 'complete', reason: expect.stringMatching(/\w/) });
    const out = await node.ok(['inspect', image]);
    expect(out).toMatch(/^Digest: {4}sha256:[0-9a-f]{64}$/m);
    expect(out).toMatch(/^LAYER +SIZE +UNPACKED +CACHED +SERVED +INDEX +WHY$/m);
  });

  it('fetches nothing of an image that is not here yet', async () => {
    const other = new PeelNode();
    try {
      const { layers } = await other.json<{ layers: object[] }>(['inspect', image]);
      for (const layer of layers)
        expect(layer).toMatchObject({ serving: 'whole', presentBytes: 0, reason: expect.stringContaining('no index') });
      expect(await other.json(['cache', 'ls'])).toEqual([]);
      expect(await other.ok(['inspect', image])).toMatch(/^Size: .* compressed$/m);
    } finally {
      await other.close();
    }
  });

  it('names the index that is taken, and why', async () => {
    const lab = await ImageLab.start();
    const pushed = await lab.push('1', [labLayer(tarOf({ path: 'f', data: 'x' }))]);
    const layer = pushed.layers[0]?.descriptor.digest as Digest;
    const made = ['one', 'two'].map((name) => [{ layer, table: Buffer.from(name) }]);
    for (const tables of made) await pushPeelIndex(lab, pushed, tables, { created: '2024-01-01T00:00:00Z' });
    const name = `${lab.front.host}/lab/app`;
    const out = await node.ok(['inspect', pushed.reference]);
    expect(out).toMatch(
      new RegExp(`^Index: {5}peel index sha256:[0-9a-f]{64} \\(referrer in ${name}, newest of 2\\)$`, 'm'),
    );
    expect(out).toMatch(/ lazy +peel +peel table sha256:/);
    expect(await node.ok(['inspect', '--index', 'never', pushed.reference])).toMatch(
      /^Index: {5}none, indexes are switched off/m,
    );
  });

  it('reports an image that does not exist', async () => {
    expect(await node.peel(['inspect', `oci:${node.dir}/layout:other`])).toMatchObject({
      code: 1,
      err: expect.stringMatching(/^peel: .*other/),
    });
    expect(await node.peel(['inspect', `oci:${node.dir}/nowhere`])).toMatchObject({
      code: 1,
      err: expect.stringMatching(/nowhere/),
    });
  });
});

describe('cache', () => {
  it('lists layers, removes one by the beginning of its digest, and then all', async () => {
    await node.ok(['ls', image]);
    const before = await node.json<{ digest: string }[]>(['cache', 'ls']);
    expect(before.length).toBeGreaterThan(2);
    const hex = before[0]?.digest.slice('sha256:'.length, 'sha256:'.length + 20) ?? '';
    expect(await node.json(['cache', 'rm', hex])).toMatchObject({ removed: [before[0]?.digest], busy: [] });
    expect(await node.json(['cache', 'rm', '--all'])).toMatchObject({ busy: [] });
    expect(await node.json(['cache', 'ls'])).toEqual([]);
    expect(readFileSync(path.join(node.dir, 'layout', 'index.json')).length).toBeGreaterThan(0);
    expect(await node.ok(['cat', image, '/bin/one'])).toBe('1');
  });

  it('refuses to guess what to remove', async () => {
    expect((await node.peel(['cache', 'rm'])).code).toBe(2);
    expect((await node.peel(['cache', 'rm', 'ffff'])).code).toBe(1);
  });
});
