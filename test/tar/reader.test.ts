import { describe, expect, it } from 'vitest';
import { TarError } from '../../src/tar/errors.ts';
import { readTar, TarReader, type TarReaderOptions } from '../../src/tar/reader.ts';
import { archive, base256, type BuiltMember, GNU_MAGIC, gnuLong, member, paxHeader } from '../support/tar-builder.ts';

const one = (...parts: (BuiltMember | Buffer)[]) => readTar(archive(...parts))[0];

function errorOf(bytes: Uint8Array, options?: TarReaderOptions): TarError {
  try {
    readTar(bytes, options);
  } catch (error) {
    if (error instanceof TarError) return error;
    throw error;
  }
  throw new Error('nothing was refused');
}

describe('TarReader', () => {
  it('gives offsets into the stream', () => {
    const entries = readTar(
      archive({ name: 'a', data: 'x'.repeat(513) }, { name: 'b', data: 'y', pax: { mtime: '1.5' } }),
    );
    expect(entries).toMatchObject([
      {
        path: 'a',
        headerOffset: 0,
        dataOffset: 512,
        size: 513,
        extents: [{ fileOffset: 0, streamOffset: 512, size: 513 }],
      },
      { path: 'b', headerOffset: 1536, dataOffset: 3072, mtime: 1, mtimeNs: 500_000_000 },
    ]);
  });

  it('starts counting where it is told', () => {
    expect(readTar(archive({ name: 'a', data: 'x' }), { startOffset: 10_240 })[0]).toMatchObject({
      dataOffset: 10_752,
    });
  });

  it('knows every type', () => {
    const entries = readTar(
      archive(
        { name: 'f', flag: '0' },
        { name: 'old', flag: '\0' },
        { name: 'olddir/', flag: '\0' },
        { name: 'cont', flag: '7', data: 'abc' },
        { name: 'h', flag: '1', link: 'f' },
        { name: 's', flag: '2', link: '/abs' },
        { name: 'c', flag: '3', major: 4095, minor: 0xfffff },
        { name: 'b', flag: '4', major: 8, minor: 1 },
        { name: 'd/', flag: '5', mode: 0o41777 },
        { name: 'p', flag: '6' },
        { name: 'label', flag: 'V' },
        { name: 'dump/', flag: 'D', magic: GNU_MAGIC, data: 'Yf\0\0' },
      ),
    );
    expect(entries.map((e) => [e.path, e.type, e.link, e.devMajor, e.devMinor, e.size, e.mode])).toEqual([
      ['f', 'file', '', 0, 0, 0, 0o644],
      ['old', 'file', '', 0, 0, 0, 0o644],
      ['olddir/', 'dir', '', 0, 0, 0, 0o644],
      ['cont', 'file', '', 0, 0, 3, 0o644],
      ['h', 'hardlink', 'f', 0, 0, 0, 0o644],
      ['s', 'symlink', '/abs', 0, 0, 0, 0o644],
      ['c', 'char', '', 4095, 0xfffff, 0, 0o644],
      ['b', 'block', '', 8, 1, 0, 0o644],
      ['d/', 'dir', '', 0, 0, 0, 0o1777],
      ['p', 'fifo', '', 0, 0, 0, 0o644],
      ['dump/', 'dir', '', 0, 0, 0, 0o644],
    ]);
  });

  it('ignores the size of links, so that the next header is found', () => {
    const entries = readTar(archive({ name: 'h', flag: '1', link: 'f', size: 7777 }, { name: 'next' }));
    expect(entries.map((e) => [e.path, e.size])).toEqual([
      ['h', 0],
      ['next', 0],
    ]);
  });

  it('applies PAX records over the header, and ignores empty ones', () => {
    const entry = one({
      name: 'short',
      uid: 1,
      pax: {
        path: 'long/ü',
        uid: '3000000',
        gid: '4294967295',
        uname: 'ü',
        gname: '',
        linkpath: 'ignored',
        mtime: '-0.5',
      },
    });
    expect(entry).toMatchObject({
      uid: 3_000_000,
      gid: 4_294_967_295,
      gname: '',
      link: '',
      mtime: -1,
      mtimeNs: 500_000_000,
    });
    expect(Buffer.from(entry?.path ?? '', 'latin1').toString()).toBe('long/ü');
    expect(entry?.pax.size).toBe(7);
  });

  it('takes the size from PAX', () => {
    const entries = readTar(
      archive({ name: 'a', size: 0, data: 'x'.repeat(600), pax: { size: '600' } }, { name: 'b' }),
    );
    expect(entries.map((e) => [e.path, e.size])).toEqual([
      ['a', 600],
      ['b', 0],
    ]);
  });

  it('passes over global headers, also broken ones and between an extended header and its member', () => {
    const broken = member({ name: 'pax_global_header', flag: 'g', data: 'this is no record' });
    const large = member({ name: 'pax_global_header', flag: 'g', data: 'x'.repeat(2_000_000) });
    const entries = readTar(
      archive(broken, paxHeader({ path: 'global' }, 'g'), { name: 'a' }, large, paxHeader({ path: 'mine' }), broken, {
        name: 'b',
      }),
    );
    expect(entries.map((e) => e.path)).toEqual(['a', 'mine']);
  });

  it('reads GNU long names and links, which win over PAX', () => {
    const name = Buffer.concat([Buffer.from([0xff, 0xfe]), Buffer.alloc(300, 'n')]);
    const entry = one(gnuLong('K', 'l'.repeat(4000)), gnuLong('L', name), {
      name: 'cut',
      flag: '2',
      link: 'cut',
      pax: { path: 'pax' },
    });
    expect(entry).toMatchObject({ path: name.toString('latin1'), link: 'l'.repeat(4000), headerOffset: 0 });
  });

  it('reads base-256 sizes and negative times', () => {
    const bytes = member({ name: 'big', size: base256(9 * 2 ** 30, 12), mtime: base256(-86_400, 12) });
    const reader = new TarReader();
    expect(reader.push(bytes)[0]).toMatchObject({ size: 9 * 2 ** 30, mtime: -86_400 });
    expect(() => reader.finish()).toThrow(/ends inside the data of big/);
  });

  it('folds negative owners into 32 bits', () => {
    const entry = one({ name: 'a', patch: (b) => base256(-2, 8).copy(b, 108) });
    expect(entry?.uid).toBe(0xffff_fffe);
  });

  it('stops at two zero blocks and counts what follows', () => {
    const reader = new TarReader();
    const bytes = Buffer.concat([archive({ name: 'a' }), archive({ name: 'b' }), Buffer.alloc(9000, 0xff)]);
    expect(reader.push(bytes).map((e) => e.path)).toEqual(['a']);
    expect(reader.ended).toBe(true);
    expect(reader.finish()).toEqual({ entries: 1, endOffset: 1536, streamSize: bytes.length });
  });

  it.each([
    ['no end blocks', 512],
    ['one end block', 1024],
    ['a part of an end block', 700],
  ])('accepts an archive with %s', (_, length) => {
    expect(readTar(archive({ name: 'a' }).subarray(0, length))).toHaveLength(1);
  });

  it('accepts missing padding behind the last member', () => {
    expect(readTar(archive({ name: 'a', data: 'abc' }).subarray(0, 515))).toHaveLength(1);
    expect(errorOf(archive({ name: 'a', data: 'abc' }).subarray(0, 514)).code).toBe('ERR_TAR_TRUNCATED');
  });

  it('is empty for an empty stream', () => {
    expect(readTar(Buffer.alloc(0))).toEqual([]);
    expect(readTar(Buffer.alloc(1024))).toEqual([]);
  });

  it.each<[string, Buffer, string]>([
    ['a zero block in the middle', Buffer.concat([Buffer.alloc(512), member({ name: 'a' })]), 'ERR_TAR_HEADER'],
    ['text', Buffer.alloc(2000, 'hello '), 'ERR_TAR_HEADER'],
    ['a cut header', member({ name: 'a' }).subarray(0, 300), 'ERR_TAR_TRUNCATED'],
    ['an extended header without a member', paxHeader({ path: 'a' }), 'ERR_TAR_TRUNCATED'],
    ['an extended header before the end', archive(paxHeader({ path: 'a' })), 'ERR_TAR_HEADER'],
    ['a cut extended header', paxHeader({ path: 'a' }).subarray(0, 515), 'ERR_TAR_TRUNCATED'],
    ['a negative size', archive({ name: 'a', size: base256(-512, 12) }), 'ERR_TAR_HEADER'],
    ['a size past every stream', archive({ name: 'a', pax: { size: '9007199254740990' } }), 'ERR_TAR_HEADER'],
    ['a bad size record', archive({ name: 'a', pax: { size: 'many' } }), 'ERR_TAR_PAX'],
    ['a continued volume', archive({ name: 'a', flag: 'M' }), 'ERR_TAR_TYPE'],
    ['a vendor type', archive({ name: 'a', flag: 'Z' }), 'ERR_TAR_TYPE'],
    ['an owner past 32 bits', archive({ name: 'a', pax: { uid: '4294967296' } }), 'ERR_TAR_HEADER'],
  ])('refuses %s', (_, bytes, code) => {
    expect(errorOf(bytes).code).toBe(code);
  });

  it.each<[string, Buffer, TarReaderOptions]>([
    ['PAX headers', archive({ name: 'a', pax: { comment: 'x'.repeat(1024 * 1024) } }), {}],
    ['long names', archive(gnuLong('L', 'x'.repeat(1024 * 1024)), { name: 'a' }), {}],
    ['members', archive({ name: 'a' }, { name: 'b' }), { maxEntries: 1 }],
    ['names', archive({ name: 'abc' }, { name: 'def' }), { maxNameBytes: 5 }],
  ])('bounds %s', (_, bytes, options) => expect(errorOf(bytes, options).code).toBe('ERR_TAR_LIMIT'));

  it('stays failed', () => {
    const reader = new TarReader();
    expect(() => reader.push(Buffer.alloc(512, 1))).toThrow(TarError);
    expect(() => reader.push(member({ name: 'a' }))).toThrow(TarError);
    expect(() => reader.finish()).toThrow(TarError);
  });

  it('names the entry and the offset', () => {
    const error = errorOf(archive({ name: 'a' }, { name: 'b\n', flag: 'M' }));
    expect(error.message).toBe(
      "tar entry b\\x0a: unsupported member type 'M' (continued from another volume) (at byte 512 of the tar stream)",
    );
    expect(error.offset).toBe(512);
  });

  it('keeps nothing of the chunks', () => {
    const bytes = archive({ name: 'a', pax: { 'SCHILY.xattr.user.x': 'value' } });
    const entry = readTar(bytes)[0];
    bytes.fill(0);
    expect([...(entry?.xattrs.values() ?? [])].map(String)).toEqual(['value']);
  });
});
