// Well-formed tars from short descriptions, through our writer.
import type { EntryType } from '../../src/tar/entry.ts';
import { formatTarHeader, tarEnd, type TarMember, tarPadding } from '../../src/tar/writer.ts';
import { type ByteString, byteStringFrom, byteStringFromText } from '../../src/util/byte-string.ts';

export interface Described {
  readonly path: string | Buffer;
  readonly type?: EntryType;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly mtime?: number;
  readonly mtimeNs?: number;
  readonly link?: string | Buffer;
  readonly data?: string | Buffer;
  readonly major?: number;
  readonly minor?: number;
  readonly xattrs?: Readonly<Record<string, string | Buffer>>;
}

export function tarOf(...members: readonly Described[]): Buffer {
  return Buffer.concat([...members.map(memberBytes), tarEnd]);
}

export function memberBytes(described: Described): Buffer {
  const data = Buffer.from(described.data ?? '');
  return Buffer.concat([formatTarHeader(tarMember(described, data.length)), data, tarPadding(data.length)]);
}

export function tarMember(described: Described, size: number): TarMember {
  const type = described.type ?? 'file';
  return {
    path: bytes(described.path),
    type,
    mode: described.mode ?? (type === 'dir' ? 0o755 : 0o644),
    uid: described.uid ?? 0,
    gid: described.gid ?? 0,
    uname: '' as ByteString,
    gname: '' as ByteString,
    mtime: described.mtime ?? 1_700_000_000,
    mtimeNs: described.mtimeNs ?? 0,
    size,
    link: bytes(described.link ?? ''),
    devMajor: described.major ?? 0,
    devMinor: described.minor ?? 0,
    xattrs: new Map(
      Object.entries(described.xattrs ?? {}).map(([name, value]) => [byteStringFromText(name), Buffer.from(value)]),
    ),
  };
}

function bytes(value: string | Buffer): ByteString {
  return typeof value === 'string' ? byteStringFromText(value) : byteStringFrom(value);
}
