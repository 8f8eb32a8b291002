// Extended attributes travel as PAX records in two spellings: star's `SCHILY.xattr.<name>` with the raw value, and
// libarchive's `LIBARCHIVE.xattr.<percent-encoded name>` with a base64 value. bsdtar writes both.
import { type ByteString, byteStringFrom, bytesOf } from '../util/byte-string.ts';
import { formatPaxRecord, type PaxRecords } from './pax.ts';

const SCHILY = 'SCHILY.xattr.';
const LIBARCHIVE = 'LIBARCHIVE.xattr.';

export const noXattrs: ReadonlyMap<ByteString, Uint8Array> = new Map();

/** Attribute names and raw values among `records`. The raw spelling wins where both are there. */
export function xattrsOf(records: PaxRecords): ReadonlyMap<ByteString, Uint8Array> {
  let found: Map<ByteString, Uint8Array> | undefined;
  for (const [key, value] of records) {
    if (key.startsWith(SCHILY) && key.length > SCHILY.length) {
      (found ??= new Map<ByteString, Uint8Array>()).set(key.slice(SCHILY.length) as ByteString, value);
    }
  }
  for (const [key, value] of records) {
    if (!key.startsWith(LIBARCHIVE)) continue;
    const name = percentDecode(key.slice(LIBARCHIVE.length));
    if (name === '' || found?.has(name) === true) continue;
    (found ??= new Map<ByteString, Uint8Array>()).set(name, Buffer.from(byteStringFrom(value), 'base64'));
  }
  return found ?? noXattrs;
}

/** The record for one attribute. A name with `=` has no raw spelling: the first `=` would end the key. */
export function formatXattrRecord(name: ByteString, value: Uint8Array): Buffer {
  if (!name.includes('=')) return formatPaxRecord(`${SCHILY}${name}` as ByteString, value);
  const encoded = name.replace(/[^\x21-\x7e]|[%=]/g, percentEncodeByte);
  const base64 = Buffer.from(value).toString('base64').replace(/=+$/, '');
  return formatPaxRecord(`${LIBARCHIVE}${encoded}` as ByteString, bytesOf(base64 as ByteString));
}

function percentDecode(text: string): ByteString {
  return text.replace(/%([0-9A-Fa-f]{2})/g, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  ) as ByteString;
}

function percentEncodeByte(char: string): string {
  return `%${char.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`;
}
