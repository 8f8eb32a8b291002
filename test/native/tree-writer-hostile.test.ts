// What operations of hostile layers, and other processes, can make a TreeWriter do: nothing outside of its directory.
import { execFileSync } from 'node:child_process';
import { existsSync, lstatSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import type { TreeOp } from '../../src/native/tree-ops.ts';
import { mountPoint } from '../support/mounted.ts';
import { start, stop } from '../support/run.ts';
import { tempDir } from '../support/tmp.ts';
import { attributes, file, fileOf, type TreeWriting, treeWriting } from '../support/tree-writing.ts';

const code = (...names: string[]) => expect.objectContaining({ code: expect.toBeOneOf(names) });
const asRoot = process.getuid?.() === 0;

const symlink = (name: string, target: string): TreeOp => ({
  op: 'symlink',
  path: name,
  target,
  attributes: attributes(),
});

describe('beneath its directory a TreeWriter', () => {
  it('writes through no symbolic link', async () => {
    const through: TreeOp[] = [
      { op: 'mkdir', path: 'l/x' },
      file('l/x'),
      symlink('l/x', 'y'),
      { op: 'node', path: 'l/x', kind: 'fifo', major: 0, minor: 0, attributes: attributes() },
      { op: 'link', path: 'l/x', existing: 'f' },
      { op: 'link', path: 'x', existing: 'l/secret' },
      { op: 'remove', path: 'l/secret' },
      { op: 'describe', path: 'l', attributes: attributes({ mode: 0o777 }) },
      { op: 'describe', path: 'l/sub', attributes: attributes({ mode: 0o777 }) },
      file('a/l/x'),
      { op: 'remove', path: 'a/l/sub/secret' },
    ];
    for (const op of through) {
      const { at, place, run } = treeWriting();
      const outside = path.join(place, 'outside');
      mkdirSync(path.join(outside, 'sub'), { recursive: true, mode: 0o755 });
      writeFileSync(path.join(outside, 'secret'), '');
      writeFileSync(path.join(outside, 'sub', 'secret'), '');
      const links = [symlink('l', '../outside'), symlink('a/l', '../../outside')];
      await expect(run(file('f'), { op: 'mkdir', path: 'a' }, ...links, op), JSON.stringify(op)).rejects.toThrow(
        code('ELOOP', 'ENOTDIR'),
      );
      expect(readdirSync(outside).sort()).toEqual(['secret', 'sub']);
      expect(readdirSync(path.join(outside, 'sub'))).toEqual(['secret']);
      for (const dir of [outside, path.join(outside, 'sub')]) expect(lstatSync(dir).mode & 0o777).toBe(0o755);
      expect(existsSync(at('x'))).toBe(false);
    }
  });

  it('replaces nothing, and follows nothing at the end of a path', async () => {
    for (const op of [
      file('l'),
      { op: 'mkdir', path: 'l' },
      symlink('l', 'x'),
      { op: 'node', path: 'l', kind: 'fifo', major: 0, minor: 0, attributes: attributes() },
      { op: 'link', path: 'l', existing: 'f' },
    ] satisfies TreeOp[]) {
      const { place, run } = treeWriting();
      await expect(run(file('f'), symlink('l', '../made'), op)).rejects.toThrow(code('EEXIST'));
      expect(readdirSync(place).sort()).toEqual(['data', 'tree']);
    }
    const { at, place, run } = treeWriting();
    writeFileSync(path.join(place, 'kept'), '');
    await run(symlink('l', '../kept'), { op: 'link', path: 'm', existing: 'l' }, { op: 'remove', path: 'l' });
    expect(lstatSync(at('m')).isSymbolicLink()).toBe(true);
    expect(existsSync(path.join(place, 'kept'))).toBe(true);
  });

  it.each(['', '/', '/etc', '.', '..', '../x', 'a/../../x', 'a/..', 'a//b', 'a/', './a', 'a/./b', 'a\0b', 'ā'])(
    'takes no path like %j',
    async (name) => {
      const { dir, run, writer } = treeWriting();
      const ops: TreeOp[] = [
        { op: 'mkdir', path: name },
        file(name),
        { op: 'link', path: 'l', existing: name },
        { op: 'remove', path: name },
      ];
      for (const op of ops) expect(() => writer.submit([{ op: 'mkdir', path: 'a' }, op])).toThrow(TypeError);
      if (name !== '') {
        expect(() => writer.submit([{ op: 'describe', path: name, attributes: attributes() }])).toThrow(TypeError);
      }
      await run();
      expect(readdirSync(dir)).toEqual([]);
    },
  );

  it('takes no numbers that nothing can have', async () => {
    const { run, writer } = treeWriting();
    const bad: TreeOp[] = [
      file('f', { attributes: attributes({ mode: 0o10000 }) }),
      file('f', { attributes: attributes({ uid: -1 }) }),
      file('f', { attributes: attributes({ gid: 2 ** 32 }) }),
      file('f', { attributes: attributes({ mtime: 0.5 }) }),
      file('f', { attributes: attributes({ mtimeNs: 1e9 }) }),
      file('f', { size: -1 }),
      file('f', { stream: 1.5 }),
      file('f', { size: Number.NaN }),
      file('f', { attributes: attributes({ xattrs: new Map([['user.\0', Buffer.alloc(0)]]) }) }),
      symlink('f', 'a\0'),
    ];
    for (const op of bad) expect(() => writer.submit([op]), JSON.stringify(op)).toThrow(TypeError);
    await run();
    for (const op of [
      // chown() takes these for "as it is".
      file('f', { attributes: attributes({ uid: 2 ** 32 - 1 }) }),
      file('f', { size: 5, extents: [{ fileOffset: 1, streamOffset: 0, size: 5 }] }),
      file('f', { size: 5, extents: [{ fileOffset: 0, streamOffset: Number.MAX_SAFE_INTEGER, size: 6 }] }),
    ]) {
      const { at, run: other } = treeWriting();
      await expect(other(op)).rejects.toThrow(code('EINVAL'));
      expect(existsSync(at('f'))).toBe(false);
    }
  });

  it('goes through no directory that another process replaces by a link meanwhile', async () => {
    const place = tempDir();
    // More than the writer keeps open.
    const parts = Array.from({ length: 100 }, (_, i) => String(i));
    for (const part of parts) mkdirSync(path.join(place, 'outside', part), { recursive: true });
    const trees = Array.from({ length: 6 }, (_, i) => {
      mkdirSync(path.join(place, `w${i}`));
      return treeWriting(Buffer.alloc(1000, 1), { place: path.join(place, `w${i}`) });
    });
    for (const { run } of trees) {
      const inside = parts.map((part): TreeOp => ({ op: 'mkdir', path: `d/${part}` }));
      await run({ op: 'mkdir', path: 'd' }, ...inside, symlink('other', '../../outside'));
    }
    // Exchanges directory and link in all of them, as fast as it can: renameat2(RENAME_EXCHANGE).
    const python = `
import ctypes, os, sys
libc = ctypes.CDLL(None); at = [os.open(d, os.O_PATH) for d in sys.argv[1:]]
print('ready', flush=True)
while True:
  for fd in at: libc.renameat2(fd, b'd', fd, b'other', 2)`;
    const { child } = await start('python3', ['-c', python, ...trees.map(({ dir }) => dir)], /ready/);
    const writeUntilRefused = async ({ run }: TreeWriting): Promise<void> => {
      for (let i = 0; ; i++) await run(fileOf(`d/${i % parts.length}/f${i}`, 0, 1000));
    };
    try {
      // Each meets the link sooner or later.
      for (const end of await Promise.allSettled(trees.map(writeUntilRefused))) {
        expect(end).toMatchObject({ status: 'rejected', reason: code('ELOOP', 'ENOTDIR') });
      }
    } finally {
      await stop(child);
    }
    for (const part of parts) expect(readdirSync(path.join(place, 'outside', part))).toEqual([]);
  });

  it('goes as deep and as far as a path can be', async () => {
    const { at, dir, run } = treeWriting(Buffer.from('deep'));
    const names = Array.from({ length: 60 }, (_, i) => String(i % 10).repeat(200));
    const paths = names.map((_, i) => names.slice(0, i + 1).join('/'));
    const deepest = paths.at(-1) ?? '';
    await run(
      ...paths.map((name): TreeOp => ({ op: 'mkdir', path: name })),
      fileOf(`${deepest}/file`, 0, 4),
      { op: 'link', path: `${deepest}/link`, existing: `${deepest}/file` },
      { op: 'describe', path: deepest, attributes: attributes({ mode: 0o751 }) },
    );
    // Longer than Node, or any other program, can say at once.
    const cd = paths.length;
    const shown = execFileSync(
      'bash',
      ['-c', `for i in "$@"; do cd "$i"; done; stat -c '%a %h' . link; cat file`, 'bash', ...names],
      { cwd: dir, encoding: 'utf8' },
    );
    expect([cd, shown]).toEqual([60, '751 2\n644 2\ndeep']);
    await run(file('a'), { op: 'remove', path: names[0] ?? '' }, { op: 'mkdir', path: names[0] ?? '' });
    expect(readdirSync(at(names[0] ?? ''))).toEqual([]);
    await expect(run({ op: 'mkdir', path: 'x'.repeat(256) })).rejects.toThrow(code('ENAMETOOLONG'));
  });

  it('removes with all that is in it, and what it had open there is gone', async () => {
    const { at, dir, run } = treeWriting(Buffer.from('data'));
    await run(
      { op: 'mkdir', path: 'd' },
      { op: 'mkdir', path: 'd/e' },
      fileOf('d/e/f', 0, 4),
      { op: 'mkdir', path: 'de' },
      file('de/kept'),
      { op: 'remove', path: 'd' },
      { op: 'mkdir', path: 'd' },
      { op: 'mkdir', path: 'd/e' },
      fileOf('d/e/g', 0, 4),
      { op: 'remove', path: 'd/e/g' },
      file('d/e/g'),
      { op: 'remove', path: 'de/kept' },
      file('de/fresh'),
    );
    expect(readdirSync(at('d/e'))).toEqual(['g']);
    expect(readdirSync(at('de'))).toEqual(['fresh']);
    await expect(run({ op: 'remove', path: 'none' })).rejects.toThrow(code('ENOENT'));
    expect(readdirSync(dir).sort()).toEqual(['d', 'de']);
  });

  it.runIf(asRoot)('neither enters nor removes what is mounted in it', async () => {
    const mounted = mountPoint();
    execFileSync('mount', ['-n', '-t', 'tmpfs', 'tmpfs', mounted]);
    writeFileSync(path.join(mounted, 'kept'), '');
    for (const op of [
      { op: 'remove', path: 'd' },
      { op: 'remove', path: 'd/m/kept' },
      { op: 'describe', path: 'd/m', attributes: attributes() },
      file('d/m/new'),
    ] satisfies TreeOp[]) {
      const { at, run } = treeWriting();
      await run({ op: 'mkdir', path: 'd' }, { op: 'mkdir', path: 'd/m' });
      execFileSync('mount', ['-n', '--bind', mounted, at('d/m')]);
      try {
        await expect(run(op)).rejects.toThrow(code('EBUSY', 'EXDEV'));
        expect(readdirSync(mounted)).toEqual(['kept']);
      } finally {
        execFileSync('umount', ['-n', at('d/m')]);
      }
    }
  });
});
