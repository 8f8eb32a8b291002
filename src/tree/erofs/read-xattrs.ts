import type { ByteString } from '../../util/byte-string.ts';
import { EROFS_XATTR_HEADER, xattrPrefixes } from './abi.ts';
import { checkZero, type ImageBytes, imageError } from './image-bytes.ts';
import type { ReadInode } from './read-inode.ts';

interface Attribute {
  readonly name: ByteString;
  readonly value: Uint8Array;
  /** Bytes in the image, padded. */
  readonly size: number;
}

/** Extended attributes of an image's inodes. Values are copies, one for all that share it. */
export class XattrReader {
  readonly #image: ImageBytes;
  readonly #sharedAt: number;
  readonly #charge: (bytes: number) => void;
  readonly #shared = new Map<number, Attribute>();

  /** `sharedAt`: byte offset of the shared ones. `charge` is told the bytes of each attribute of each inode; what it throws ends the work. */
  constructor(image: ImageBytes, sharedAt: number, charge: (bytes: number) => void) {
    this.#image = image;
    this.#sharedAt = sharedAt;
    this.#charge = charge;
  }

  /** Undefined without any. Errors: ERR_TREE_IMAGE. */
  read({ xattrAt, xattrSize }: Pick<ReadInode, 'xattrAt' | 'xattrSize'>): Map<ByteString, Uint8Array> | undefined {
    if (xattrSize === 0) return undefined;
    const bytes = this.#image.range(xattrAt, xattrSize, 'extended attributes');
    checkZero(bytes, 0, 4, 'extended attributes');
    checkZero(bytes, 5, EROFS_XATTR_HEADER, 'extended attributes');
    const found = new Map<ByteString, Uint8Array>();
    const take = ({ name, value }: Attribute): void => {
      if (found.has(name)) throw imageError('has an extended attribute twice');
      this.#charge(name.length + value.length);
      found.set(name, value);
    };
    let at = EROFS_XATTR_HEADER;
    for (let left = bytes[4] ?? 0; left > 0; left--, at += 4) {
      if (at + 4 > xattrSize) throw imageError('has too many shared attributes of an inode');
      take(this.#sharedOne(bytes.readUInt32LE(at)));
    }
    while (at < xattrSize) {
      const attribute = this.#attribute(xattrAt + at, xattrAt + xattrSize);
      take(attribute);
      at += attribute.size;
    }
    return found;
  }

  #sharedOne(id: number): Attribute {
    let attribute = this.#shared.get(id);
    if (attribute === undefined) {
      attribute = this.#attribute(this.#sharedAt + 4 * id, this.#image.size);
      this.#shared.set(id, attribute);
    }
    return attribute;
  }

  #attribute(at: number, end: number): Attribute {
    const head = this.#image.range(at, 4, 'an extended attribute');
    const [length = 0, space = 0] = head;
    const valueSize = head.readUInt16LE(2);
    const size = (4 + length + valueSize + 3) & ~3;
    if (at + size > end) throw imageError('ends inside an extended attribute');
    const prefix = xattrPrefixes.find(({ index }) => index === space)?.prefix;
    if (prefix === undefined || prefix.endsWith('.') !== length > 0)
      throw imageError(`has an extended attribute of the unknown name space ${space}`);
    const behind = at + 4 + length;
    const value = new Uint8Array(this.#image.range(behind, valueSize, 'the value of an extended attribute'));
    return { name: `${prefix}${this.#image.text(at + 4, behind)}` as ByteString, value, size };
  }
}
