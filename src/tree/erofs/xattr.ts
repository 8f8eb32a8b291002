// Extended attributes: entries `{ u8 name length, u8 name space, u16 value size, name, value }`, padded to 4 bytes. Those of
// one inode follow it behind a 12-byte header; those that occur more than once are shared, and the header has their places.
import type { ByteString } from '../../util/byte-string.ts';
import { displayBytes } from '../../util/byte-string.ts';
import { TreeError } from '../errors.ts';
import { EROFS_XATTR_HEADER, xattrPrefixes } from './abi.ts';

interface Attribute {
  readonly index: number;
  /** Without the name space. */
  readonly name: ByteString;
  readonly value: Uint8Array;
  /** Bytes on disk, padded. */
  readonly size: number;
  uses: number;
  /** Byte offset in the shared area, or -1. */
  shared: number;
}

export interface XattrPlan {
  /** Bytes behind the inode, header included; 0 without attributes. */
  readonly size: number;
  readonly inline: readonly Attribute[];
  readonly shared: readonly Attribute[];
}

const maxShared = 255;
/** i_xattr_icount is 16 bits of 4-byte units, and one for the header. */
const maxInline = EROFS_XATTR_HEADER + 4 * 0xfffe;

/** The name space of an attribute; undefined when the format has none for it. */
export function xattrSpace(full: ByteString): (typeof xattrPrefixes)[number] | undefined {
  return xattrPrefixes.find(
    ({ prefix }) => full.startsWith(prefix) && prefix.endsWith('.') === full.length > prefix.length,
  );
}

/** All attributes of an image. First `add` every inode's, then `plan` each of them again. */
export class XattrTable {
  readonly #known = new Map<string, Attribute>();
  #sharedSize = 0;
  readonly #shared: Attribute[] = [];

  /** Errors: ERR_TREE_VALUE for a name over 255 or a value over 65 535 bytes, naming the file by `name`. */
  add(xattrs: ReadonlyMap<ByteString, Uint8Array>, name: () => string): void {
    for (const attribute of this.#attributesOf(xattrs, name)) attribute.uses++;
  }

  /** Decides which attributes are shared; call it after the last `add`. Returns the shared area's size in bytes. */
  share(): number {
    for (const attribute of this.#known.values()) {
      if (attribute.uses < 2) continue;
      attribute.shared = this.#sharedSize;
      this.#sharedSize += attribute.size;
      this.#shared.push(attribute);
    }
    return this.#sharedSize;
  }

  /** Errors: ERR_TREE_LIMIT when the attributes of one inode need more than 262 kB. */
  plan(xattrs: ReadonlyMap<ByteString, Uint8Array>, name: () => string): XattrPlan {
    const inline: Attribute[] = [];
    const shared: Attribute[] = [];
    let size = 0;
    for (const attribute of this.#attributesOf(xattrs, name)) {
      if (attribute.shared >= 0 && shared.length < maxShared) {
        shared.push(attribute);
        size += 4;
      } else {
        inline.push(attribute);
        size += attribute.size;
      }
    }
    if (size > 0) size += EROFS_XATTR_HEADER;
    if (size > maxInline)
      throw new TreeError('ERR_TREE_LIMIT', `${name()}: its extended attributes need ${size} bytes`);
    return { size, inline, shared };
  }

  writeShared(image: Buffer, at: number): void {
    for (const attribute of this.#shared) writeAttribute(image, at + attribute.shared, attribute);
  }

  #attributesOf(xattrs: ReadonlyMap<ByteString, Uint8Array>, file: () => string): Attribute[] {
    const found: Attribute[] = [];
    const names = xattrs.size > 1 ? [...xattrs.keys()].sort() : xattrs.keys();
    for (const full of names) {
      const space = xattrSpace(full);
      // The format cannot say them; a tar program on Linux cannot set them either (ENOTSUP) and goes on.
      if (space === undefined) continue;
      const value = xattrs.get(full) as Uint8Array;
      const name = full.slice(space.prefix.length) as ByteString;
      if (name.length > 255 || value.length > 0xffff) {
        throw new TreeError('ERR_TREE_VALUE', `${file()}: extended attribute ${displayBytes(full)} is too long`);
      }
      const key = `${full}\0${Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('latin1')}`;
      let attribute = this.#known.get(key);
      if (attribute === undefined) {
        const size = (4 + name.length + value.length + 3) & ~3;
        attribute = { index: space.index, name, value, size, uses: 0, shared: -1 };
        this.#known.set(key, attribute);
      }
      found.push(attribute);
    }
    return found;
  }
}

/** Writes what stands behind an inode at `at`. */
export function writeXattrs(image: Buffer, at: number, plan: XattrPlan): void {
  image[at + 4] = plan.shared.length;
  let to = at + EROFS_XATTR_HEADER;
  for (const attribute of plan.shared) to = image.writeUInt32LE(attribute.shared / 4, to);
  for (const attribute of plan.inline) {
    writeAttribute(image, to, attribute);
    to += attribute.size;
  }
}

function writeAttribute(image: Buffer, at: number, { index, name, value }: Attribute): void {
  image[at] = name.length;
  image[at + 1] = index;
  image.writeUInt16LE(value.length, at + 2);
  image.write(name, at + 4, 'latin1');
  image.set(value, at + 4 + name.length);
}
