// Archives made by GNU tar and Python's tarfile, and ours extracted by GNU tar.
import {
  chmodSync,
  closeSync,
  lutimesSync,
  mkdirSync,
  openSync,
  readFileSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { readTar } from '../../src/tar/reader.ts';
import { formatSparseHeader, formatTarHeader, tarEnd, tarPadding } from '../../src/tar/writer.ts';
import { displayBytes } from '../../src/util/byte-string.ts';
import { listTree, treeDifference } from '../support/list-tree.ts';
import { runOk } from '../support/run.ts';
import { memberBytes, tarMember, tarOf } from '../support/tar-members.ts';
import { tempDir } from '../support/tmp.ts';

const long = Array.from({ length: 10 }, (_, i) => `${'directory'.repeat(3)}${i}`).join('/');

/** A folder with what every format can say; `rich` adds what v7 and ustar cannot. */
function makeSource(dir: string, rich: boolean): string {
  const source = path.join(dir, 'source');
  mkdirSync(path.join(source, 'sub'), { recursive: true });
  writeFileSync(path.join(source, 'sub/file'), 'content');
  chmodSync(path.join(source, 'sub/file'), 0o4755);
  writeFileSync(path.join(source, 'empty'), '');
  symlinkSync('sub/file', path.join(source, 'link'));
  lutimesSync(path.join(source, 'sub/file'), 1_600_000_000, 1_600_000_000);
  if (!rich) return source;
  mkdirSync(path.join(source, long), { recursive: true });
  writeFileSync(path.join(source, long, 'deep ü'), 'deep');
  symlinkSync('t'.repeat(300), path.join(source, 'long-link'));
  writeFileSync(Buffer.concat([Buffer.from(`${source}/raw-`), Buffer.from([0xff, 0xfe])]), 'raw');
  return source;
}

describe('TarReader and GNU tar', () => {
  it.each([
    ['v7', false],
    ['ustar', false],
    ['oldgnu', true],
    ['gnu', true],
    ['posix', true],
  ])('agree on %s archives', async (format, rich) => {
    const dir = tempDir();
    const source = makeSource(dir, rich);
    const tar = path.join(dir, 'a.tar');
    await runOk('tar', ['-c', `--format=${format}`, '-f', tar, '-C', source, '.']);
    const entries = readTar(readFileSync(tar));
    const listed = (await runOk('tar', ['-tf', tar, '--quoting-style=literal', '--show-transformed-names']))
      .split('\n')
      .slice(0, -1);
    const shown = entries.map((entry) => Buffer.from(entry.path, 'latin1').toString('utf8'));
    expect(shown).toEqual(listed);
    const file = entries.find((entry) => entry.path === './sub/file');
    expect(file).toMatchObject({ type: 'file', mode: 0o4755, size: 7, mtime: 1_600_000_000 });
    if (rich) {
      expect(entries.find((entry) => entry.path === './long-link')?.link).toBe('t'.repeat(300));
      expect(entries.some((entry) => entry.path === './raw-\xff\xfe')).toBe(true);
    }
  });

  it.each([
    ['--format=gnu'],
    ['--format=posix', '--sparse-version=0.0'],
    ['--format=posix', '--sparse-version=0.1'],
    ['--format=posix', '--sparse-version=1.0'],
  ])('agree on sparse files: %s %s', async (...format) => {
    const dir = tempDir();
    const name = `${'n'.repeat(120)}-sparse`;
    const file = path.join(dir, name);
    const fd = openSync(file, 'w');
    const runs = Array.from({ length: 60 }, (_, i) => i * 200_000);
    for (const at of runs) writeSync(fd, `run at ${at}`, at);
    closeSync(fd);
    truncateSync(file, 20_000_123);
    const tar = path.join(dir, 'a.tar');
    await runOk('tar', ['-c', '--sparse', ...format.filter(Boolean), '-f', tar, '-C', dir, name, name]);
    const bytes = readFileSync(tar);
    const entries = readTar(bytes).filter((entry) => entry.type === 'file');
    expect(entries[0]).toMatchObject({ path: name, size: 20_000_123, sparse: true });
    const expanded = Buffer.alloc(20_000_123);
    for (const { fileOffset, streamOffset, size } of entries[0]?.extents ?? []) {
      bytes.copy(expanded, fileOffset, streamOffset, streamOffset + size);
    }
    expect(expanded.equals(readFileSync(file))).toBe(true);
  });

  it('agree on extended attributes', async () => {
    const dir = tempDir();
    const source = makeSource(dir, false);
    await runOk('setfattr', ['-n', 'user.binary', '-v', '0x00ff0a3d80', path.join(source, 'empty')]);
    const tar = path.join(dir, 'a.tar');
    await runOk('tar', ['-c', '--format=posix', '--xattrs', '-f', tar, '-C', source, '.']);
    const entry = readTar(readFileSync(tar)).find(({ path: name }) => name === './empty');
    expect([...(entry?.xattrs ?? [])]).toEqual([['user.binary', Buffer.from([0, 255, 10, 61, 128])]]);
  });
});

describe("TarReader and Python's tarfile", () => {
  it.each(['USTAR_FORMAT', 'GNU_FORMAT', 'PAX_FORMAT'])('agree on %s', async (format) => {
    const dir = tempDir();
    const tar = path.join(dir, 'a.tar');
    const program = `
import io, tarfile
with tarfile.open(${JSON.stringify(tar)}, 'w', format=tarfile.${format}) as tar:
    def add(name, **fields):
        info = tarfile.TarInfo(name)
        for key, value in fields.items():
            if key != 'data': setattr(info, key, value)
        info.size = len(fields.get('data', b''))
        tar.addfile(info, io.BytesIO(fields.get('data', b'')))
    add('a', data=b'x' * 1000, mode=0o640, uid=5, gid=6, uname='me', gname='us', mtime=1500000000)
    add('p' * 90 + '/' + 'q' * 90, data=b'y')
    add('dir', type=tarfile.DIRTYPE, mode=0o755)
    add('hard', type=tarfile.LNKTYPE, linkname='a')
    add('null', type=tarfile.CHRTYPE, devmajor=1, devminor=3)
    add('fifo', type=tarfile.FIFOTYPE)
    if tarfile.${format} != tarfile.USTAR_FORMAT:
        add('wide', uid=3000000, gid=4000000000, mtime=-5)
with tarfile.open(${JSON.stringify(tar)}) as tar:
    for m in tar: print(m.name, m.size, m.mode, m.uid, m.gid, m.uname, m.gname, int(m.mtime), m.linkname, m.devmajor, m.devminor, m.offset, m.offset_data, sep='|')
`;
    const listed = (await runOk('python3', ['-c', program])).split('\n').slice(0, -1);
    const ours = readTar(readFileSync(tar)).map((e) =>
      [
        displayBytes(e.path).replace(/\/$/, ''),
        e.size,
        e.mode,
        e.uid,
        e.gid,
        e.uname,
        e.gname,
        e.mtime,
        e.link,
        e.devMajor,
        e.devMinor,
        e.headerOffset,
        e.dataOffset,
      ].join('|'),
    );
    expect(ours).toEqual(listed);
  });
});

describe('formatTarHeader', () => {
  const members = [
    { path: 'plain', data: 'plain' },
    { path: 'dir', type: 'dir', mode: 0o1777 },
    { path: 'n'.repeat(100), data: 'x' },
    { path: `${'p'.repeat(150)}/${'n'.repeat(100)}`, data: 'prefix' },
    { path: `${'p'.repeat(160)}/${'n'.repeat(100)}`, data: 'pax' },
    { path: `${'p'.repeat(100)}/${'q'.repeat(99)}`, type: 'dir' },
    { path: Buffer.from([0xff, 0x80]), data: 'bytes' },
    { path: Buffer.concat([Buffer.alloc(200, 'm'), Buffer.from([0xff, 0xe4])]), data: 'bytes' },
    { path: 'link', type: 'symlink', link: 'l'.repeat(400) },
    { path: 'hard', type: 'hardlink', link: 'plain' },
    { path: 'null', type: 'char', major: 1, minor: 3 },
    { path: 'disk', type: 'block', major: 4095, minor: 0xfffff },
    { path: 'fifo', type: 'fifo' },
    { path: 'owned', uid: 3_000_000, gid: 4_000_000_000 },
    { path: 'old', mtime: -2, mtimeNs: 250_000_000 },
    { path: 'older', mtime: -86_400 },
    { path: 'fine', mtime: 5, mtimeNs: 1 },
    { path: 'attributed', xattrs: { 'user.x': Buffer.from([0, 10, 255]), 'user.a=b': 'equals', 'user.empty': '' } },
  ] as const;

  it.each(members.map((m) => [displayBytes(m.path.toString('latin1') as never).slice(0, 30), m] as const))(
    'reads back: %s',
    (_, described) => {
      const bytes = Buffer.concat([memberBytes(described), tarEnd]);
      const [entry] = readTar(bytes);
      const member = tarMember(described, 'data' in described ? described.data.length : 0);
      expect(entry).toMatchObject({ ...member, path: member.type === 'dir' ? `${member.path}/` : member.path });
    },
  );

  it('is extracted by GNU tar', async () => {
    const dir = tempDir();
    writeFileSync(path.join(dir, 'a.tar'), tarOf({ path: './', type: 'dir' }, ...members));
    mkdirSync(path.join(dir, 'out'));
    await runOk('tar', [
      '-xpf',
      path.join(dir, 'a.tar'),
      '--xattrs',
      '--xattrs-include=*',
      '-C',
      path.join(dir, 'out'),
    ]);
    const list = await listTree(path.join(dir, 'out'));
    const line = (name: string): string => list.find((text) => text.startsWith(`${name}\t`)) ?? '';
    expect(list).toHaveLength(22);
    expect(line('old')).toContain('\t-1750000000\t');
    expect(line('owned')).toContain('\t3000000\t4000000000\t');
    expect(line('attributed')).toContain('user.empty=,user.x=000aff');
    expect(line('hard')).toContain('\t2\thard\t');
    expect(treeDifference(list, list)).toBe('');
  });

  it('writes sizes past 8 GiB', () => {
    const header = formatTarHeader(tarMember({ path: 'big' }, 9 * 2 ** 30));
    expect(header.length).toBe(1536);
    expect(header.includes('size=9663676416\n')).toBe(true);
  });

  it('writes sparse files that GNU tar and we read', async () => {
    const dir = tempDir();
    const member = tarMember({ path: `${'n'.repeat(200)}/sparse` }, 10_000_000);
    const segments = [
      { fileOffset: 512, size: 1024 },
      { fileOffset: 5_000_192, size: 100 },
    ];
    const data = Buffer.alloc(1124, 'sparse!');
    const bytes = Buffer.concat([
      formatSparseHeader(member, segments),
      data,
      tarPadding(data.length),
      memberBytes({ path: 'next' }),
      tarEnd,
    ]);
    const entries = readTar(bytes);
    expect(entries).toMatchObject([{ path: member.path, size: 10_000_000, sparse: true }, { path: 'next' }]);
    expect(entries[0]?.extents.map(({ fileOffset, size }) => ({ fileOffset, size }))).toEqual(segments);
    writeFileSync(path.join(dir, 'a.tar'), bytes);
    await runOk('tar', ['-xf', path.join(dir, 'a.tar'), '-C', dir]);
    const extracted = readFileSync(path.join(dir, member.path));
    const expected = Buffer.alloc(10_000_000);
    data.copy(expected, 512, 0, 1024);
    data.copy(expected, 5_000_192, 1024);
    expect(extracted.equals(expected)).toBe(true);
  });
});
