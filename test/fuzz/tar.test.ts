import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { TarError } from '../../src/tar/errors.ts';
import { readTar, TarReader } from '../../src/tar/reader.ts';
import { formatTarHeader, tarEnd, type TarMember, tarPadding } from '../../src/tar/writer.ts';
import { TreeError } from '../../src/tree/errors.ts';
import { writeErofs } from '../../src/tree/erofs-writer.ts';
import { mergeLayers } from '../../src/tree/merge.ts';
import type { ByteString } from '../../src/util/byte-string.ts';
import { archive, GNU_MAGIC, gnuLong, oldGnuSparse, paxHeader } from '../support/tar-builder.ts';

const rich = archive(
  { name: './', flag: '5' },
  { name: 'a', data: 'x'.repeat(700), pax: { mtime: '1.5', 'SCHILY.xattr.user.x': 'value', path: 'dir/a' } },
  paxHeader({ comment: 'global' }, 'g'),
  gnuLong('L', 'long/'.repeat(60)),
  gnuLong('K', 'target'.repeat(60)),
  { name: 'cut', flag: '2', magic: GNU_MAGIC },
  oldGnuSparse(
    'sparse',
    9000,
    [
      [0, 512],
      [1024, 512],
      [2048, 512],
      [3072, 512],
      [4096, 512],
      [9000, 0],
    ],
    Buffer.alloc(2560),
  ),
  {
    name: 'x',
    data: Buffer.concat([Buffer.from('2\n0\n512\n4096\n0\n'.padEnd(512, '\0')), Buffer.alloc(512)]),
    pax: {
      'GNU.sparse.major': '1',
      'GNU.sparse.minor': '0',
      'GNU.sparse.name': 'sparse10',
      'GNU.sparse.realsize': '4096',
    },
  },
  { name: 'hard', flag: '1', link: 'dir/a' },
  { name: '.wh.gone' },
  { name: 'dev', flag: '3', major: 1, minor: 3 },
);

describe('TarReader', () => {
  it('gives the same entries for every way to cut the stream', () => {
    const whole = readTar(rich);
    const cuts = fc.oneof(
      fc.array(fc.nat(rich.length), { maxLength: 30 }),
      fc.integer({ min: 1, max: 700 }).map(every),
    );
    fc.assert(
      fc.property(cuts, (at) => {
        const reader = new TarReader();
        const sorted = [...at, rich.length].sort((a, b) => a - b);
        let from = 0;
        const found = sorted.flatMap((to) => {
          const entries = reader.push(Uint8Array.from(rich.subarray(from, to)));
          from = to;
          return entries;
        });
        expect(found).toEqual(whole);
        expect(reader.finish()).toEqual({ entries: whole.length, endOffset: rich.length, streamSize: rich.length });
      }),
      { numRuns: 200 },
    );
  });

  it('refuses or reads mutated archives, and what it reads becomes a tree and an image, or is refused', () => {
    const edits = fc.array(fc.tuple(fc.nat(rich.length - 1), fc.nat(255)), { minLength: 1, maxLength: 6 });
    fc.assert(
      fc.property(edits, fc.boolean(), fc.nat(rich.length), (changes, repair, length) => {
        const bytes = Buffer.from(repair ? rich : rich.subarray(0, length));
        for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
        if (repair) for (let at = 0; at < bytes.length; at += 512) fixChecksum(bytes, at);
        digest(bytes);
      }),
      { numRuns: 3000 },
    );
  });

  it('refuses or reads any bytes behind a valid checksum', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 512, maxLength: 512 }),
        fc.constantFrom(...Array.from('01234567gxLKSDVM\0')),
        (noise, flag) => {
          const bytes = Buffer.concat([Buffer.from(noise), Buffer.alloc(1024)]);
          bytes.write(flag, 156, 'latin1');
          bytes.write(noise[0] === 0 ? 'ustar  \0' : 'ustar\x0000', 257, 'latin1');
          for (const at of [100, 108, 116, 124, 136, 329, 337])
            if ((noise[at] as number) < 200) bytes.write('0000007\0', at, 'latin1');
          fixChecksum(bytes, 0);
          digest(bytes);
        },
      ),
      { numRuns: 2000 },
    );
  });
});

describe('formatTarHeader', () => {
  const name = fc
    .uint8Array({ minLength: 1, maxLength: 400 })
    .map((bytes) => Buffer.from(bytes.map((byte) => (byte === 0 ? 47 : byte))).toString('latin1') as ByteString);
  const member: fc.Arbitrary<TarMember> = fc.record({
    path: name.filter((path) => !path.endsWith('/')),
    type: fc.constantFrom('file', 'symlink', 'hardlink', 'fifo', 'char'),
    mode: fc.nat(0o7777),
    uid: fc.nat(0xffff_ffff),
    gid: fc.nat(0xffff_ffff),
    uname: name,
    gname: fc.constant('' as ByteString),
    mtime: fc.integer({ min: -(2 ** 33), max: 2 ** 34 }),
    mtimeNs: fc.nat(999_999_999),
    size: fc.nat(3000),
    link: name,
    devMajor: fc.nat(4095),
    devMinor: fc.nat(0xfffff),
    xattrs: fc
      .array(fc.tuple(name, fc.uint8Array({ maxLength: 50 })), { maxLength: 3 })
      .map((pairs) => new Map(pairs.map(([key, value]) => [`user.${key}` as ByteString, Buffer.from(value)]))),
  });

  it('reads back whatever the fields hold', () => {
    fc.assert(
      fc.property(fc.array(member, { minLength: 1, maxLength: 5 }), (members) => {
        const parts = members.flatMap((m) => {
          const size = m.type === 'file' ? m.size : 0;
          return [formatTarHeader(m), Buffer.alloc(size, 'd'), tarPadding(size)];
        });
        const entries = readTar(Buffer.concat([...parts, tarEnd]));
        expect(entries).toHaveLength(members.length);
        members.forEach((m, i) => {
          const linked = m.type === 'symlink' || m.type === 'hardlink';
          const size = m.type === 'file' ? m.size : 0;
          const device = m.type === 'char' ? {} : { devMajor: 0, devMinor: 0 };
          expect(entries[i]).toMatchObject({ ...m, size, link: linked ? m.link : '', ...device });
        });
      }),
      { numRuns: 300 },
    );
  });
});

function every(step: number): number[] {
  return Array.from({ length: Math.floor(rich.length / step) }, (_, i) => (i + 1) * step);
}

function fixChecksum(bytes: Buffer, at: number): void {
  if (bytes[at] === 0 || at + 512 > bytes.length) return;
  let sum = 256;
  for (let i = at; i < at + 512; i++) if (i < at + 148 || i >= at + 156) sum += bytes[i] as number;
  bytes.write(`${sum.toString(8).padStart(6, '0')}\0 `, at + 148, 'latin1');
}

/** Everything that happens to a layer; only our own errors may come out. */
function digest(bytes: Buffer): void {
  try {
    const entries = readTar(bytes);
    writeErofs(mergeLayers([{ entries, streamSize: bytes.length }]), { maxIndexSize: 1024 * 1024 });
  } catch (error) {
    if (!(error instanceof TarError) && !(error instanceof TreeError)) throw error;
  }
}
