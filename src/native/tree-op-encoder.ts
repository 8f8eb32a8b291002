import type { NodeAttributes, StreamExtent, TreeOp } from './tree-ops.ts';

/** Numbers of native/src/apply/op_reader.hpp. */
const kinds = { mkdir: 1, file: 2, symlink: 3, node: 4, link: 5, remove: 6, describe: 7 } as const;
const nodeKinds = { char: 1, block: 2, fifo: 3 } as const;

/** An empty part, `.` or `..`, which a leading, trailing or double slash makes too. */
const unclean = /(?:^|\/)\.{0,2}(?:\/|$)/;
// oxlint-disable-next-line no-control-regex -- NUL and what is no byte is what must not pass
const noText = /[^\u0001-\u00ff]/;
const latest = 999_999_999;

/**
 * Operations as native/src/apply/op_reader.cpp reads them: little-endian numbers without padding; a text or value is its
 * length (32 bits), its bytes and a NUL.
 *
 *     op          kind u8, path text, then by kind
 *     file        attributes, size u64, stream u32, count u32, count × (fileOffset u64, streamOffset u64, size u64)
 *     symlink     target text, attributes
 *     node        kind u8, major u32, minor u32, attributes
 *     link        existing text
 *     describe    attributes
 *     attributes  mode u32, uid u32, gid u32, mtime i64, mtimeNs u32, count u32, count × (name text, value)
 */
export class TreeOpEncoder {
  #bytes = Buffer.allocUnsafeSlow(64 * 1024);
  #at = 0;

  /** Valid until the next call. Throws TypeError for an operation that none can be. */
  encode(ops: readonly TreeOp[]): Uint8Array {
    this.#at = 0;
    for (const op of ops) this.#op(op);
    return this.#bytes.subarray(0, this.#at);
  }

  #op(op: TreeOp): void {
    this.#u8(kinds[op.op]);
    if (op.op === 'describe' && op.path === '') this.#text('');
    else this.#path(op.path);
    switch (op.op) {
      case 'file':
        this.#attributes(op.attributes);
        this.#u64(op.size);
        this.#u32(op.stream);
        this.#extents(op.extents);
        return;
      case 'symlink':
        this.#text(op.target);
        return this.#attributes(op.attributes);
      case 'node':
        this.#u8(nodeKinds[op.kind]);
        this.#u32(op.major);
        this.#u32(op.minor);
        return this.#attributes(op.attributes);
      case 'link':
        return this.#path(op.existing);
      case 'describe':
        return this.#attributes(op.attributes);
      default:
    }
  }

  #attributes(attributes: NodeAttributes): void {
    const { mode, uid, gid, mtime, mtimeNs, xattrs } = attributes;
    if (mode > 0o7777) throw new TypeError(`mode ${mode.toString(8)}`);
    if (!Number.isSafeInteger(mtime)) throw new TypeError(`a time of ${mtime} seconds`);
    if (mtimeNs > latest) throw new TypeError(`${mtimeNs} nanoseconds`);
    this.#u32(mode);
    this.#u32(uid);
    this.#u32(gid);
    this.#room(8);
    this.#at = this.#bytes.writeInt32LE(Math.floor(mtime / 2 ** 32), this.#bytes.writeUInt32LE(mtime >>> 0, this.#at));
    this.#u32(mtimeNs);
    this.#u32(xattrs.size);
    for (const [name, value] of xattrs) {
      this.#text(name);
      this.#value(value);
    }
  }

  #extents(extents: readonly StreamExtent[]): void {
    this.#u32(extents.length);
    for (const { fileOffset, streamOffset, size } of extents) {
      this.#u64(fileOffset);
      this.#u64(streamOffset);
      this.#u64(size);
    }
  }

  #path(path: string): void {
    if (unclean.test(path)) throw new TypeError(`not a clean path: ${JSON.stringify(path)}`);
    this.#text(path);
  }

  #text(text: string): void {
    if (noText.test(text)) throw new TypeError(`not a text of bytes without NUL: ${JSON.stringify(text)}`);
    this.#u32(text.length);
    this.#room(text.length + 1);
    this.#at += this.#bytes.write(text, this.#at, 'latin1');
    this.#bytes[this.#at++] = 0;
  }

  #value(value: Uint8Array): void {
    this.#u32(value.length);
    this.#room(value.length + 1);
    this.#bytes.set(value, this.#at);
    this.#at += value.length;
    this.#bytes[this.#at++] = 0;
  }

  #u8(value: number): void {
    this.#room(1);
    this.#bytes[this.#at++] = value;
  }

  #u32(value: number): void {
    if (value >>> 0 !== value) throw new TypeError(`not a 32-bit number: ${value}`);
    this.#room(4);
    this.#at = this.#bytes.writeUInt32LE(value, this.#at);
  }

  #u64(value: number): void {
    if (!Number.isSafeInteger(value) || value < 0) throw new TypeError(`not a size or offset: ${value}`);
    this.#room(8);
    this.#at = this.#bytes.writeUInt32LE(value >>> 0, this.#at);
    this.#at = this.#bytes.writeUInt32LE(Math.floor(value / 2 ** 32), this.#at);
  }

  #room(size: number): void {
    if (this.#at + size <= this.#bytes.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(2 * this.#bytes.length, this.#at + size));
    larger.set(this.#bytes.subarray(0, this.#at));
    this.#bytes = larger;
  }
}
