import { describe, expect, it } from 'vitest';
import { TarError } from '../../src/tar/errors.ts';
import { readTar, type TarReaderOptions } from '../../src/tar/reader.ts';
import { archive, oldGnuSparse, paxHeader, paxRecord, member } from '../support/tar-builder.ts';

function sparse10(map: string, data: string, size = 100_000): Buffer {
  const body = Buffer.concat([Buffer.from(map), Buffer.alloc((512 - (map.length % 512)) % 512), Buffer.from(data)]);
  const pax = {
    'GNU.sparse.major': '1',
    'GNU.sparse.minor': '0',
    'GNU.sparse.name': 'real',
    'GNU.sparse.realsize': `${size}`,
  };
  return archive({ name: 'GNUSparseFile.0/real', data: body, pax }, { name: 'next' });
}

function codeOf(bytes: Buffer, options?: TarReaderOptions): string {
  try {
    readTar(bytes, options);
  } catch (error) {
    if (error instanceof TarError) return error.code;
    throw error;
  }
  return 'accepted';
}

describe('sparse maps', () => {
  it('reads PAX 1.0, drops the end marker and joins adjoining segments', () => {
    const [entry, next] = readTar(sparse10('4\n0\n512\n512\n512\n4096\n10\n100000\n0\n', 'x'.repeat(1034)));
    expect(entry).toMatchObject({
      path: 'real',
      size: 100_000,
      sparse: true,
      dataOffset: 1536,
      extents: [
        { fileOffset: 0, streamOffset: 2048, size: 1024 },
        { fileOffset: 4096, streamOffset: 3072, size: 10 },
      ],
    });
    expect(next?.path).toBe('next');
  });

  it('reads maps of many blocks', () => {
    const count = 1000;
    const map = `${count}\n${Array.from({ length: count }, (_, i) => `${i * 100}\n1\n`).join('')}`;
    expect(readTar(sparse10(map, 'x'.repeat(count)))[0]?.extents).toHaveLength(count);
  });

  it('reads PAX 0.1 and 0.0', () => {
    const common = { 'GNU.sparse.size': '5000', 'GNU.sparse.numblocks': '2' };
    const one = archive({
      name: 'x',
      data: 'a'.repeat(600),
      pax: { ...common, 'GNU.sparse.map': '0,512,4096,88', 'GNU.sparse.name': 'real' },
    });
    expect(readTar(one)[0]).toMatchObject({ path: 'real', size: 5000, sparse: true });
    const records = [
      ...Object.entries(common),
      ...[0, 512, 4096, 88].map((n, i) => [i % 2 ? 'GNU.sparse.numbytes' : 'GNU.sparse.offset', `${n}`]),
    ];
    const data = Buffer.concat(records.map(([key = '', value = '']) => paxRecord(key, value)));
    const zero = archive(member({ name: 'pax', flag: 'x', data }), { name: 'real', data: 'a'.repeat(600) });
    expect(readTar(zero)[0]?.extents.map((e) => [e.fileOffset, e.size])).toEqual([
      [0, 512],
      [4096, 88],
    ]);
  });

  it('reads old GNU maps over extension blocks', () => {
    const segments = Array.from({ length: 60 }, (_, i): [number, number] => [i * 1024, 512]);
    const [entry, next] = readTar(
      archive(oldGnuSparse('real', 70_000, segments, Buffer.alloc(60 * 512, 'x')), { name: 'next' }),
    );
    expect(entry).toMatchObject({ path: 'real', size: 70_000, dataOffset: 512 * 4 });
    expect(entry?.extents).toHaveLength(60);
    expect(next?.path).toBe('next');
  });

  it('is an ordinary file when the version is unknown', () => {
    const entry = readTar(
      archive({ name: 'x', data: 'abc', pax: { 'GNU.sparse.major': '2', 'GNU.sparse.minor': '0' } }),
    )[0];
    expect(entry).toMatchObject({ size: 3, sparse: false });
  });

  it.each<[string, Buffer]>([
    ['overlap', sparse10('2\n0\n512\n256\n512\n', 'x'.repeat(1024))],
    ['are out of order', sparse10('2\n1024\n512\n0\n512\n', 'x'.repeat(1024))],
    ['reach past the file', sparse10('1\n99999\n2\n', 'xx')],
    ['speak of more data than there are', sparse10('1\n0\n512\n', 'x')],
    ['speak of fewer data than there are', sparse10('1\n0\n1\n', 'xx')],
    ['are not numbers', sparse10('1\nzero\n512\n', 'x')],
    ['have empty lines', sparse10('\n\n', 'x')],
    ['have endless numbers', sparse10('1'.repeat(600), '')],
    ['are negative', sparse10('1\n-1\n512\n', 'x')],
    ['do not end', sparse10('3\n0\n512\n', '')],
    ['have half a pair', archive({ name: 'x', data: 'a', pax: { 'GNU.sparse.map': '0', 'GNU.sparse.size': '1' } })],
    [
      'have text in a record',
      archive({ name: 'x', data: 'a', pax: { 'GNU.sparse.map': '0,one', 'GNU.sparse.size': '1' } }),
    ],
    ['have more segments than allowed', sparse10('2000000\n0\n1\n', 'x')],
    [
      'stand on a directory',
      archive(paxHeader({ 'GNU.sparse.map': '0,0', 'GNU.sparse.size': '0' }), { name: 'd', flag: '5' }),
    ],
    ['have an impossible size', sparse10('0\n', '', -1)],
  ])('refuses maps that %s', (_, bytes) => {
    expect(['ERR_TAR_SPARSE', 'ERR_TAR_TRUNCATED']).toContain(codeOf(bytes));
  });

  it('counts the segments of all files together', () => {
    const one = oldGnuSparse(
      'a',
      4096,
      [
        [0, 512],
        [1024, 512],
        [2048, 512],
      ],
      Buffer.alloc(1536),
    );
    expect(codeOf(archive(one, one), { maxSparseSegments: 6 })).toBe('accepted');
    expect(codeOf(archive(one, one), { maxSparseSegments: 5 })).toBe('ERR_TAR_SPARSE');
  });

  it('refuses type S outside the GNU format, and extension blocks cut off', () => {
    expect(codeOf(archive({ name: 'a', flag: 'S' }))).toBe('ERR_TAR_TYPE');
    const segments = Array.from({ length: 9 }, (_, i): [number, number] => [i * 1024, 512]);
    expect(codeOf(oldGnuSparse('a', 9999, segments, Buffer.alloc(0)).subarray(0, 700))).toBe('ERR_TAR_TRUNCATED');
  });
});
