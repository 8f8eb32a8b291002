import { type ByteString, byteStringFromText } from '../util/byte-string.ts';

const xattrPrefix = 'SCHILY.xattr.';

export type PaxRecords = ReadonlyMap<ByteString, Uint8Array>;

export const noRecords: PaxRecords = new Map();

/** Extended attributes among PAX records: attribute name without the prefix to raw value. */
export function xattrsOfPax(pax: PaxRecords): PaxRecords {
  let xattrs: Map<ByteString, Uint8Array> | undefined;
  for (const [key, value] of pax) {
    if (!key.startsWith(xattrPrefix)) continue;
    xattrs ??= new Map();
    xattrs.set(key.slice(xattrPrefix.length) as ByteString, value);
  }
  return xattrs ?? noRecords;
}

/** True when the records describe a PAX sparse file of any version. */
export function isPaxSparse(pax: PaxRecords): boolean {
  for (const key of pax.keys()) {
    if (key.startsWith('GNU.sparse.')) return true;
  }
  return false;
}

export const emptyBytes: ByteString = byteStringFromText('');
