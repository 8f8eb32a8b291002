// Hand-made tars for tests: anything goes, also what no tar program would write.
export interface BuiltMember {
  readonly name: string | Buffer;
  readonly flag?: string;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  /** Overrides the size field; default: the data's length. */
  readonly size?: number | Buffer;
  readonly mtime?: number | Buffer;
  readonly link?: string | Buffer;
  readonly magic?: string;
  readonly uname?: string;
  readonly major?: number;
  readonly minor?: number;
  readonly prefix?: string;
  readonly data?: Buffer | string;
  /** PAX records put in front, values as bytes. */
  readonly pax?: Readonly<Record<string, string | Buffer>>;
  readonly checksum?: 'unsigned' | 'signed' | 'wrong';
  /** Last word on the header block, before the checksum. */
  readonly patch?: (block: Buffer) => void;
}

export const GNU_MAGIC = 'ustar  \0';
export const USTAR_MAGIC = 'ustar\x0000';

/** One member: PAX header when asked, header block, data, padding. */
export function member(m: BuiltMember): Buffer {
  const data = typeof m.data === 'string' ? Buffer.from(m.data) : (m.data ?? Buffer.alloc(0));
  const block = Buffer.alloc(512);
  bytes(m.name).copy(block, 0, 0, 100);
  octal(block, 100, 8, m.mode ?? 0o644);
  octal(block, 108, 8, m.uid ?? 0);
  octal(block, 116, 8, m.gid ?? 0);
  if (Buffer.isBuffer(m.size)) m.size.copy(block, 124);
  else octal(block, 124, 12, m.size ?? data.length);
  if (Buffer.isBuffer(m.mtime)) m.mtime.copy(block, 136);
  else octal(block, 136, 12, m.mtime ?? 0);
  block.write(m.flag ?? '0', 156, 'latin1');
  bytes(m.link ?? '').copy(block, 157, 0, 100);
  block.write(m.magic ?? USTAR_MAGIC, 257, 'latin1');
  block.write(m.uname ?? '', 265, 'latin1');
  octal(block, 329, 8, m.major ?? 0);
  octal(block, 337, 8, m.minor ?? 0);
  if (m.magic !== GNU_MAGIC) block.write(m.prefix ?? '', 345, 155, 'latin1');
  m.patch?.(block);
  checksum(block, m.checksum ?? 'unsigned');
  return Buffer.concat([m.pax === undefined ? Buffer.alloc(0) : paxHeader(m.pax), block, padded(data)]);
}

/** A whole archive with its two zero blocks. */
export function archive(...members: readonly (BuiltMember | Buffer)[]): Buffer {
  const parts = members.map((m) => (Buffer.isBuffer(m) ? m : member(m)));
  return Buffer.concat([...parts, Buffer.alloc(1024)]);
}

export function paxHeader(records: Readonly<Record<string, string | Buffer>>, flag = 'x'): Buffer {
  const parts = Object.entries(records).map(([key, value]) => paxRecord(key, value));
  return member({ name: 'PaxHeaders/x', flag, data: Buffer.concat(parts) });
}

export function paxRecord(key: string, value: string | Buffer): Buffer {
  const rest = Buffer.concat([Buffer.from(` ${key}=`), bytes(value), Buffer.from('\n')]);
  let length = rest.length + 1;
  while (String(length).length + rest.length !== length) length++;
  return Buffer.concat([Buffer.from(String(length)), rest]);
}

/** A GNU long name (`L`) or long link (`K`) in front of the next member. */
export function gnuLong(flag: 'L' | 'K', value: string | Buffer): Buffer {
  return member({
    name: '././@LongLink',
    flag,
    magic: GNU_MAGIC,
    data: Buffer.concat([bytes(value), Buffer.alloc(1)]),
  });
}

/** GNU base-256 number in a field of `length` bytes. */
export function base256(value: number | bigint, length: number): Buffer {
  const field = Buffer.alloc(length);
  let rest = BigInt.asUintN(length * 8 - 1, BigInt(value));
  for (let i = length - 1; i >= 0; i--) {
    field[i] = Number(rest & 0xffn);
    rest >>= 8n;
  }
  field[0] = (field[0] as number) | 0x80;
  return field;
}

/** An old GNU sparse member: map in the header and in as many extension blocks as it takes. */
export function oldGnuSparse(
  name: string,
  realSize: number,
  segments: readonly [number, number][],
  data: Buffer,
): Buffer {
  const rest = segments.slice(4);
  const extensions: Buffer[] = [];
  for (let i = 0; i < rest.length; i += 21) {
    const block = Buffer.alloc(512);
    rest.slice(i, i + 21).forEach((segment, n) => sparseSegment(block, n * 24, segment));
    block[504] = i + 21 < rest.length ? 1 : 0;
    extensions.push(block);
  }
  const header = member({
    name,
    flag: 'S',
    magic: GNU_MAGIC,
    size: data.length,
    patch: (block) => {
      block.fill(0, 345, 512);
      segments.slice(0, 4).forEach((segment, n) => sparseSegment(block, 386 + n * 24, segment));
      block[482] = rest.length > 0 ? 1 : 0;
      octal(block, 483, 12, realSize);
    },
  });
  return Buffer.concat([header, ...extensions, padded(data)]);
}

export function checksum(block: Buffer, kind: 'unsigned' | 'signed' | 'wrong' = 'unsigned'): void {
  block.fill(' ', 148, 156);
  let sum = 0;
  for (const byte of block.subarray(0, 512)) sum += kind === 'signed' ? (byte << 24) >> 24 : byte;
  if (kind === 'wrong') sum++;
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
}

function sparseSegment(block: Buffer, at: number, [offset, size]: readonly [number, number]): void {
  octal(block, at, 12, offset);
  octal(block, at + 12, 12, size);
}

function octal(block: Buffer, at: number, length: number, value: number): void {
  if (value >= 8 ** (length - 1)) base256(value, length).copy(block, at);
  else block.write(`${value.toString(8).padStart(length - 1, '0')}\0`, at, 'latin1');
}

function padded(data: Buffer): Buffer {
  return Buffer.concat([data, Buffer.alloc((512 - (data.length % 512)) % 512)]);
}

function bytes(value: string | Buffer): Buffer {
  return typeof value === 'string' ? Buffer.from(value, 'utf8') : value;
}
