import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  chownSync,
  closeSync,
  existsSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { getXattr, listXattrs, setXattr } from '../../src/native/sys.ts';
import { TreeWriter } from '../../src/native/tree-writer.ts';
import { mountPoint } from '../support/mounted.ts';
import { keptMemoryDir, tempDir } from '../support/tmp.ts';
import { attributes, file, fileOf, treeWriting } from '../support/tree-writing.ts';

const code = (name: string) => expect.objectContaining({ code: name });
const { signal } = new AbortController();
const asRoot = process.getuid?.() === 0;

/** Until `what` is so; the writer's thread is not asked. */
async function until(what: () => boolean): Promise<void> {
  while (!what()) await delay(2);
}

describe('what a TreeWriter makes', () => {
  it.runIf(asRoot)('is what every operation says', async () => {
    const { at, dir, run, writer } = treeWriting(Buffer.from('some data of a file'));
    await run(
      { op: 'mkdir', path: 'a' },
      { op: 'mkdir', path: 'a/b' },
      file('a/b/f', {
        size: 9,
        extents: [{ fileOffset: 0, streamOffset: 5, size: 9 }],
        attributes: attributes({ mode: 0o4751, uid: 12, gid: 34, mtime: -5, mtimeNs: 999_999_999 }),
      }),
      file('empty', { attributes: attributes({ uid: 4_294_967_294, mtime: 2 ** 33 + 1 }) }),
      {
        op: 'symlink',
        path: 'a/l',
        target: '../../../etc/passwd',
        attributes: attributes({ uid: 7, gid: 8, mtimeNs: 3 }),
      },
      { op: 'node', path: 'null', kind: 'char', major: 1, minor: 3, attributes: attributes({ mode: 0o666, uid: 9 }) },
      { op: 'node', path: 'disk', kind: 'block', major: 259, minor: 70_000, attributes: attributes({ mode: 0o1660 }) },
      { op: 'node', path: 'fifo', kind: 'fifo', major: 0, minor: 0, attributes: attributes({ mode: 0o622 }) },
      { op: 'link', path: 'hard', existing: 'a/b/f' },
      { op: 'link', path: 'hardlink', existing: 'a/l' },
      { op: 'describe', path: 'a/b', attributes: attributes({ mode: 0o2750, uid: 3, gid: 4, mtime: 77, mtimeNs: 5 }) },
      { op: 'describe', path: '', attributes: attributes({ mode: 0o1777 }) },
    );
    const f = lstatSync(at('a/b/f'), { bigint: true });
    expect([f.mode, f.uid, f.gid, f.mtimeNs, f.atimeNs, f.nlink]).toEqual([
      0o104751n,
      12n,
      34n,
      -4_000_000_001n,
      -4_000_000_001n,
      2n,
    ]);
    expect(readFileSync(at('a/b/f'), 'latin1')).toBe('data of a');
    expect(lstatSync(at('hard'), { bigint: true }).ino).toBe(f.ino);
    const empty = lstatSync(at('empty'));
    expect([empty.size, empty.uid, empty.mtimeMs]).toEqual([0, 4_294_967_294, (2 ** 33 + 1) * 1000]);
    expect(readlinkSync(at('a/l'))).toBe('../../../etc/passwd');
    const l = lstatSync(at('a/l'), { bigint: true });
    expect([l.uid, l.gid, l.mtimeNs, l.nlink]).toEqual([7n, 8n, 1_000_000_000_000_000_003n, 2n]);
    const nodes = execFileSync('stat', ['-c', '%F %t:%T %a %u', at('null'), at('disk'), at('fifo')], {
      encoding: 'utf8',
    });
    expect(nodes.trim().split('\n')).toEqual([
      'character special file 1:3 666 9',
      'block special file 103:11170 1660 0',
      'fifo 0:0 622 0',
    ]);
    const b = lstatSync(at('a/b'), { bigint: true });
    expect([b.mode, b.uid, b.gid, b.mtimeNs]).toEqual([0o42750n, 3n, 4n, 77_000_000_005n]);
    expect(lstatSync(at('a')).mode).toBe(0o40700);
    expect(lstatSync(dir).mode).toBe(0o41777);
    expect(writer.progress).toEqual({ ops: 12, streamBytes: 9 });
    expect(writer.skipped).toEqual({ devices: 0, xattrs: 0 });
  });

  it.runIf(asRoot)('has its extended attributes, capabilities among them, after the owner is set', async () => {
    const { at, run } = treeWriting();
    const capability = Buffer.from('0100000200200000000000000000000000000000', 'hex');
    const trusted = new Map([['trusted.overlay.opaque', Buffer.from('y')]]);
    await run(
      file('ping', {
        attributes: attributes({
          uid: 5,
          mode: 0o755,
          xattrs: new Map([
            ['security.capability', capability],
            ['user.\xfe', Buffer.alloc(0)],
          ]),
        }),
      }),
      { op: 'mkdir', path: 'd' },
      { op: 'describe', path: 'd', attributes: attributes({ mode: 0o700, xattrs: trusted }) },
      { op: 'symlink', path: 'l', target: 'ping', attributes: attributes({ xattrs: trusted }) },
      { op: 'node', path: 'p', kind: 'fifo', major: 0, minor: 0, attributes: attributes({ xattrs: trusted }) },
    );
    expect(getXattr(at('ping'), 'security.capability')).toEqual(capability);
    expect(getXattr(at('ping'), Buffer.from('user.\xfe', 'latin1'))).toEqual(Buffer.alloc(0));
    for (const name of ['d', 'l', 'p']) expect(getXattr(at(name), 'trusted.overlay.opaque').toString()).toBe('y');
    const user = attributes({ xattrs: new Map([['user.a', Buffer.from('b')]]) });
    await expect(run({ op: 'symlink', path: 'l2', target: 'ping', attributes: user })).rejects.toThrow(
      "EPERM: Operation not permitted, set attribute 'user.a' of 'l2'",
    );
  });

  it('inherits no access control list of the directory', async () => {
    const place = tempDir();
    // As `setfacl -d -m u:7:rwx`: version, then tag, permissions and id of five entries.
    const entries = [
      [1, 7, -1],
      [2, 7, 7],
      [4, 5, -1],
      [16, 7, -1],
      [32, 5, -1],
    ] as const;
    const list = Buffer.alloc(4 + 8 * entries.length);
    list.writeUInt32LE(2);
    for (const [i, [tag, permissions, id]] of entries.entries()) {
      list.writeInt32LE(id, list.writeUInt16LE(permissions, list.writeUInt16LE(tag, 4 + 8 * i)));
    }
    setXattr(place, 'system.posix_acl_default', list);
    const { at, run } = treeWriting(Buffer.alloc(0), { place });
    await run({ op: 'mkdir', path: 'd' }, file('d/f'), {
      op: 'describe',
      path: 'd',
      attributes: attributes({ mode: 0o755 }),
    });
    for (const name of ['', 'd', 'd/f']) expect(listXattrs(at(name))).toEqual([]);
  });

  it('has holes where no extent is', async () => {
    const data = randomBytes(3 << 20);
    const { at, run } = treeWriting(data);
    const size = 5 * 2 ** 30;
    await run(
      file('sparse', {
        size,
        extents: [
          { fileOffset: 1 << 20, streamOffset: 100, size: 50_000 },
          { fileOffset: 4 * 2 ** 30 + 1, streamOffset: 60_000, size: 2 << 20 },
        ],
      }),
      file('hole', { size: 1 << 20 }),
    );
    const { blocks, size: found } = lstatSync(at('sparse'));
    expect(found).toBe(size);
    expect(blocks * 512).toBeLessThan(4 << 20);
    const fd = openSync(at('sparse'), 'r');
    onTestFinished(() => closeSync(fd));
    const bytes = (offset: number, length: number): Buffer => {
      const read = Buffer.alloc(length, 1);
      readSync(fd, read, 0, length, offset);
      return read;
    };
    const zeros = Buffer.alloc(4096);
    const expected = (from: number, length: number): Buffer =>
      Buffer.concat([zeros, data.subarray(from, from + length), zeros]);
    expect(bytes((1 << 20) - 4096, 50_000 + 8192).equals(expected(100, 50_000))).toBe(true);
    expect(bytes(4 * 2 ** 30 + 1 - 4096, (2 << 20) + 8192).equals(expected(60_000, 2 << 20))).toBe(true);
    expect(lstatSync(at('hole')).size).toBe(1 << 20);
  });

  it('is the data of its streams, whatever the sizes and offsets', async () => {
    const data = randomBytes(24 << 20);
    // Another filesystem, where the kernel copies nothing by itself.
    using memory = keptMemoryDir();
    for (const dataPlace of [undefined, memory.path]) {
      const { at, run, writer } = treeWriting(data, dataPlace === undefined ? {} : { dataPlace });
      const files = [
        ['one', 0, 1],
        ['small', 511, 131_072],
        ['large', 512, 131_073],
        ['back', 3, 4096],
        ['whole', 0, data.length],
        ['end', data.length - 100, 100],
        ['odd', 4097, (9 << 20) + 5],
      ] as const;
      await run(...files.map(([name, from, size]) => fileOf(name, from, size)));
      for (const [name, from, size] of files) {
        expect(readFileSync(at(name)).equals(data.subarray(from, from + size)), name).toBe(true);
      }
      expect(writer.progress.streamBytes).toBe(files.reduce((sum, [, , size]) => sum + size, 0));
    }
  });

  it('comes from several streams', async () => {
    const { at, place, run, writer } = treeWriting(Buffer.from('first stream'));
    const second = path.join(place, 'second');
    writeFileSync(second, 'second stream');
    const fd = openSync(second, 'r');
    writer.addStream(7, fd);
    // The writer has one of its own.
    closeSync(fd);
    writer.advance(7, 13);
    await run(
      fileOf('a', 0, 5),
      file('b', { stream: 7, size: 6, extents: [{ fileOffset: 0, streamOffset: 0, size: 6 }] }),
      fileOf('c', 6, 6),
    );
    expect(['a', 'b', 'c'].map((name) => readFileSync(at(name), 'utf8'))).toEqual(['first', 'second', 'stream']);
  });
});

describe('a TreeWriter and data that are not there yet', () => {
  it('writes each file once its bytes are there, and a large one as they come', async () => {
    const data = randomBytes(12 << 20);
    const { at, dataFd, writer } = treeWriting();
    writer.submit([fileOf('small', 10, 1000), fileOf('large', 2000, data.length - 2000), file('last')]);
    const finished = writer.finish({ signal });
    const upTo = (end: number, from: number): void => {
      writeSync(dataFd, data, from, end - from, from);
      writer.advance(0, end);
    };
    upTo(1009, 0);
    await until(() => existsSync(at('small')));
    await delay(20);
    expect(writer.progress).toEqual({ ops: 0, streamBytes: 0 });
    upTo(1010, 1009);
    await until(() => writer.progress.ops === 1);
    expect(readFileSync(at('small')).equals(data.subarray(10, 1010))).toBe(true);
    upTo(5 << 20, 1010);
    // Whole blocks of the file.
    await until(() => writer.progress.streamBytes > (5 << 20) - 2000 - 4096);
    expect(existsSync(at('last'))).toBe(false);
    expect(readFileSync(at('large')).equals(data.subarray(2000, 2000 + lstatSync(at('large')).size))).toBe(true);
    // Never backwards.
    writer.advance(0, 5);
    upTo(data.length, 5 << 20);
    await finished;
    expect(readFileSync(at('large')).equals(data.subarray(2000))).toBe(true);
    expect(existsSync(at('last'))).toBe(true);
  });

  it('fails when a stream has less than was said, or is unknown', async () => {
    for (const size of [500, 300_000]) {
      const { run, writer } = treeWriting(Buffer.alloc(400));
      writer.advance(0, 1 << 20);
      await expect(run(fileOf('dir-less', 0, size))).rejects.toThrow(
        expect.objectContaining({ code: 'ENODATA', message: expect.stringContaining("write 'dir-less'") }),
      );
    }
    const { run, writer } = treeWriting();
    expect(() => writer.advance(1, 0)).toThrow(code('ENOENT'));
    await expect(
      run(file('f', { stream: 1, size: 1, extents: [{ fileOffset: 0, streamOffset: 0, size: 1 }] })),
    ).rejects.toThrow(code('ENOENT'));
  });

  it('ends at once when closed', async () => {
    const threads = (): number =>
      readdirSync('/proc/self/task').filter(
        (id) => readFileSync(`/proc/self/task/${id}/comm`, 'utf8') === 'peel-tree\n',
      ).length;
    const fds = (): number => readdirSync('/proc/self/fd').length;
    const place = tempDir();
    mkdirSync(path.join(place, 't'));
    const before = [threads(), fds()];
    const dataFd = openSync(path.join(place, 'data'), 'w+');
    const writer = TreeWriter.open(path.join(place, 't'), { ownership: 'entries' });
    writer.addStream(0, dataFd);
    closeSync(dataFd);
    writer.submit([{ op: 'mkdir', path: 'a' }, file('a/b'), fileOf('never', 0, 10)]);
    const finished = expect(writer.finish({ signal })).rejects.toThrow(code('ERR_CLOSED'));
    const gone = new AbortController();
    const aborted = writer.finish({ signal: gone.signal });
    gone.abort(new Error('enough'));
    await expect(aborted).rejects.toThrow('enough');
    await until(() => writer.progress.ops === 2);
    const closing = writer.close();
    expect(() => writer.submit([])).toThrow(code('ERR_CLOSED'));
    await closing;
    await writer.close();
    await finished;
    expect(writer.progress).toEqual({ ops: 2, streamBytes: 0 });
    expect(() => writer.advance(0, 1)).toThrow(code('ERR_CLOSED'));
    expect(() => writer.addStream(1, 0)).toThrow(code('ERR_CLOSED'));
    await expect(writer.finish({ signal })).rejects.toThrow(code('ERR_CLOSED'));
    expect([threads(), fds()]).toEqual(before);
  });

  it('finishes as often as it is asked, and with a signal that is aborted not at all', async () => {
    const { at, run, writer } = treeWriting();
    await writer.finish({ signal });
    await run(file('a'));
    await run();
    await run(file('b'));
    expect(existsSync(at('b'))).toBe(true);
    await expect(writer.finish({ signal: AbortSignal.abort(new Error('no')) })).rejects.toThrow('no');
  });
});

describe('a TreeWriter that cannot', () => {
  it('says so about its directory', () => {
    const place = tempDir();
    const at = (name: string): string => path.join(place, name);
    mkdirSync(at('full/inside'), { recursive: true });
    mkdirSync(at('empty'));
    writeFileSync(at('file'), '');
    symlinkSync('empty', at('link'));
    const open = (name: string) => () => TreeWriter.open(at(name), { ownership: 'entries' });
    expect(open('full')).toThrow(code('ENOTEMPTY'));
    expect(open('none')).toThrow(code('ENOENT'));
    expect(open('file')).toThrow(code('ENOTDIR'));
    expect(open('link')).toThrow(code('ENOTDIR'));
    expect(() => TreeWriter.open(at('empty'), { ownership: 'his' as 'mine' })).toThrow(TypeError);
  });

  it('says so about a stream', () => {
    const { place, writer } = treeWriting();
    const fd = openSync(path.join(place, 'other'), 'w');
    onTestFinished(() => closeSync(fd));
    expect(() => writer.addStream(1, fd)).toThrow(code('EBADF'));
    expect(() => writer.addStream(1, 999_999)).toThrow(code('EBADF'));
    const readable = openSync('/dev/null', 'r');
    onTestFinished(() => closeSync(readable));
    expect(() => writer.addStream(0, readable)).toThrow(code('EEXIST'));
    expect(() => writer.advance(0, -1)).toThrow(TypeError);
  });

  it('stops at the first operation that fails, and says it ever after', async () => {
    const { at, run, writer } = treeWriting();
    await expect(run(file('a'), { op: 'link', path: 'b\x1b\xff', existing: 'none' }, file('c'))).rejects.toThrow(
      "ENOENT: No such file or directory, link 'none' as 'b\\x1b\\xff'",
    );
    expect(existsSync(at('a'))).toBe(true);
    expect(existsSync(at('c'))).toBe(false);
    expect(() => writer.submit([])).toThrow(code('ENOENT'));
    expect(() => writer.advance(0, 10)).toThrow(code('ENOENT'));
    await expect(writer.finish({ signal })).rejects.toThrow(code('ENOENT'));
    expect(writer.progress.ops).toBe(1);
  });

  it.runIf(asRoot)('says that the disk is full', async () => {
    const place = mountPoint();
    execFileSync('mount', ['-n', '-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', place]);
    for (const size of [100_000, 2_000_000]) {
      const folder = path.join(place, String(size));
      mkdirSync(folder);
      const data = Buffer.alloc(2_000_000, 1);
      const { run, writer } = treeWriting(data, { place: folder, dataPlace: tempDir() });
      const files = Array.from({ length: 20 }, (_, i) => fileOf(`f${i}`, 0, size));
      await expect(run(...files)).rejects.toThrow(/^ENOSPC: No space left on device, write 'f\d+'$/);
      await writer.close();
      execFileSync('rm', ['-r', folder]);
    }
  });
});

describe.runIf(asRoot)("a TreeWriter of an ordinary user, with ownership 'mine'", () => {
  it('leaves out what needs privileges, and counts it', async () => {
    const place = tempDir();
    chownSync(place, 65_534, 65_534);
    process.setegid?.(65_534);
    process.seteuid?.(65_534);
    try {
      const { at, run, writer } = treeWriting(Buffer.from('data'), { place, ownership: 'mine' });
      const xattrs = new Map([
        ['user.kept', Buffer.from('1')],
        ['security.capability', Buffer.alloc(20)],
        ['trusted.other', Buffer.from('1')],
      ]);
      await run(
        { op: 'mkdir', path: 'd' },
        file('d/f', {
          size: 4,
          extents: [{ fileOffset: 0, streamOffset: 0, size: 4 }],
          attributes: attributes({ mode: 0o4555, xattrs }),
        }),
        { op: 'symlink', path: 'l', target: 'd', attributes: attributes({ xattrs }) },
        { op: 'node', path: 'd/null', kind: 'char', major: 1, minor: 3, attributes: attributes() },
        { op: 'link', path: 'd/zero', existing: 'd/null' },
        { op: 'node', path: 'sda', kind: 'block', major: 8, minor: 0, attributes: attributes() },
        { op: 'node', path: 'fifo', kind: 'fifo', major: 0, minor: 0, attributes: attributes({ mode: 0o610 }) },
        { op: 'remove', path: 'd/zero' },
        { op: 'remove', path: 'd/f' },
        file('d/null'),
        { op: 'link', path: 'hard', existing: 'fifo' },
        file('f', { attributes: attributes({ mode: 0o4555, xattrs }) }),
        { op: 'describe', path: 'd', attributes: attributes({ mode: 0o500, uid: 1, gid: 2 }) },
      );
      expect(writer.skipped).toEqual({ devices: 3, xattrs: 2 + 3 + 2 });
      expect(readdirSync(at('d'))).toEqual(['null']);
      expect(readdirSync(at('')).sort()).toEqual(['d', 'f', 'fifo', 'hard', 'l']);
      const f = lstatSync(at('f'));
      expect([f.mode, f.uid, f.gid, f.mtimeMs]).toEqual([0o104555, 65_534, 65_534, 1e12]);
      expect(listXattrs(at('f')).map(String)).toEqual(['user.kept']);
      expect([lstatSync(at('fifo')).mode & 0o7777, lstatSync(at('d')).mode & 0o7777]).toEqual([0o610, 0o500]);
      await expect(
        run({ op: 'node', path: 'd/x', kind: 'fifo', major: 0, minor: 0, attributes: attributes() }),
      ).rejects.toThrow(code('EACCES'));
    } finally {
      process.seteuid?.(0);
      process.setegid?.(0);
    }
  });
});
