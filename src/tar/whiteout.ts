// OCI image-spec, layer.md "Whiteouts": markers among a layer's entries that delete names of the layers below.
import type { ByteString } from '../util/byte-string.ts';

export const WHITEOUT_PREFIX = '.wh.';
export const OPAQUE_MARKER = '.wh..wh..opq';
const META_PREFIX = '.wh..wh.';

export type Whiteout =
  /** Deletes `name` beside the marker. */
  | { readonly kind: 'name'; readonly name: ByteString }
  /** Deletes everything lower layers have in the marker's directory. */
  | { readonly kind: 'opaque' }
  /** Bookkeeping of AUFS (`.wh..wh.plnk` and relatives), which means nothing elsewhere. */
  | { readonly kind: 'meta' };

const opaque: Whiteout = { kind: 'opaque' };
const meta: Whiteout = { kind: 'meta' };

/** What the last path component `name` marks, or undefined for an ordinary name. */
export function whiteoutOf(name: ByteString): Whiteout | undefined {
  if (!name.startsWith(WHITEOUT_PREFIX)) return undefined;
  if (name === OPAQUE_MARKER) return opaque;
  if (name.startsWith(META_PREFIX)) return meta;
  return { kind: 'name', name: name.slice(WHITEOUT_PREFIX.length) as ByteString };
}

/** What an entry at the clean path `path` marks, AUFS's bookkeeping in folders included; undefined for an ordinary entry. */
export function whiteoutAt(path: ByteString): Whiteout | undefined {
  const start = path.lastIndexOf('/') + 1;
  const whiteout = path.startsWith(WHITEOUT_PREFIX, start) ? whiteoutOf(path.slice(start) as ByteString) : undefined;
  if (start > 0 && path.startsWith(META_PREFIX)) return meta;
  return whiteout;
}
