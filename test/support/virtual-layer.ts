// An uncompressed layer of more than 4 GiB that exists only as a rule: byte n of the stream is a function of n.
import { createCipheriv, createHash } from 'node:crypto';
import type { Descriptor } from '../../src/oci/descriptor.ts';
import { type Digest, digestFromSha256 } from '../../src/oci/digest.ts';
import { writeTarZinfo } from '../../src/index/tar-zinfo.ts';
import { writeZtoc } from '../../src/index/ztoc-writer.ts';
import type { TarEntry } from '../../src/tar/entry.ts';
import { byteStringFromText } from '../../src/util/byte-string.ts';
import type { Fault } from './registry-front.ts';

const spanSize = 4 << 20;
/** The content repeats after this many spans; 17, so that an offset cut to 32 bits (1 024 spans) reads other bytes. */
const cycle = 17;
const patterns = Array.from({ length: cycle }, (_, i) =>
  createCipheriv('aes-128-ctr', Buffer.alloc(16, i), Buffer.alloc(16)).update(Buffer.alloc(spanSize)),
);

interface Member {
  readonly name: string;
  readonly size: number;
  /** Stream offsets. */
  readonly headerOffset: number;
  readonly dataOffset: number;
}

export class VirtualLayer {
  readonly spanSize = spanSize;
  readonly members: readonly Member[];
  readonly size: number;
  /** Not the digest of the content, which nobody reads to the end. */
  readonly digest: Digest;
  readonly descriptor: Descriptor;

  /** Files in archive order. */
  constructor(files: Readonly<Record<string, number>>) {
    let at = 0;
    this.members = Object.entries(files).map(([name, size]) => {
      const member = { name, size, headerOffset: at, dataOffset: at + 512 };
      at = member.dataOffset + Math.ceil(size / 512) * 512;
      return member;
    });
    this.size = at + 1024;
    this.digest = digestFromSha256(createHash('sha256').update(JSON.stringify(files)).digest());
    this.descriptor = { mediaType: 'application/vnd.oci.image.layer.v1.tar', digest: this.digest, size: this.size };
  }

  /** Stream bytes [start, end). */
  read(start: number, end: number): Buffer {
    const out = Buffer.alloc(end - start);
    for (let at = start; at < end; ) {
      const from = at % spanSize;
      const pattern = patterns[Math.floor(at / spanSize) % cycle] ?? Buffer.alloc(0);
      const copied = pattern.copy(out, at - start, from, Math.min(spanSize, from + end - at));
      at += copied;
    }
    for (const { name, size, headerOffset, dataOffset } of this.members) {
      lay(out, start, headerOffset, ustarHeader(name, size));
      lay(out, start, dataOffset + size, Buffer.alloc(-size & 511));
    }
    lay(out, start, this.size - 1024, Buffer.alloc(1024));
    return out;
  }

  /** Bytes [start, end) of a file. */
  readFile(name: string, start: number, end: number): Buffer {
    const member = this.members.find((candidate) => candidate.name === name);
    if (member === undefined) throw new RangeError(`no ${name}`);
    return this.read(member.dataOffset + start, member.dataOffset + Math.min(end, member.size));
  }

  ztoc(): Uint8Array {
    const spans = Math.ceil(this.size / spanSize);
    const known = new Map<number, Buffer>();
    const digests = Array.from({ length: spans }, (_, i) => {
      const plain =
        !this.members.some(({ headerOffset }) => Math.floor(headerOffset / spanSize) === i) && i < spans - 1;
      const before = plain ? known.get(i % cycle) : undefined;
      if (before !== undefined) return before;
      const bytes = this.read(i * spanSize, Math.min((i + 1) * spanSize, this.size));
      const digest = createHash('sha256').update(bytes).digest();
      if (plain) known.set(i % cycle, digest);
      return digest;
    });
    return writeZtoc({
      buildTool: 'peel tests',
      compression: 'none',
      compressedSize: this.size,
      uncompressedSize: this.size,
      entries: this.members.map(entryOf),
      checkpoints: writeTarZinfo({ spanSize, size: this.size }),
      spanSha256: Buffer.concat(digests),
    });
  }

  /** Serves the blob: HEAD, whole and by range. */
  readonly serve: Fault = (request, response) => {
    const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
    const start = Number(range?.[1] ?? 0);
    const end = range?.[2] ? Math.min(Number(range[2]) + 1, this.size) : this.size;
    response.writeHead(range ? 206 : 200, {
      'content-type': 'application/octet-stream',
      'content-length': end - start,
      'docker-content-digest': this.digest,
      'accept-ranges': 'bytes',
      ...(range && { 'content-range': `bytes ${start}-${end - 1}/${this.size}` }),
    });
    if (request.method === 'HEAD') return void response.end();
    const send = (at: number): void => {
      const next = Math.min(at + (1 << 20), end);
      if (response.destroyed) return;
      if (next === end) return void response.end(this.read(at, next));
      response.write(this.read(at, next), () => send(next));
    };
    send(start);
  };
}

function lay(out: Buffer, outStart: number, at: number, bytes: Buffer): void {
  const from = Math.max(0, outStart - at);
  if (from < bytes.length && at < outStart + out.length) bytes.copy(out, Math.max(0, at - outStart), from);
}

function ustarHeader(name: string, size: number): Buffer {
  const header = Buffer.alloc(512);
  header.write(name, 0);
  header.write(
    `0000644\0${'0000000\0'.repeat(2)}${size.toString(8).padStart(11, '0')}\0${'0'.repeat(11)}\0        0`,
    100,
  );
  header.write('ustar\x0000', 257);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return header;
}

function entryOf({ name, size, headerOffset, dataOffset }: Member): TarEntry {
  const none = byteStringFromText('');
  return {
    path: byteStringFromText(name),
    type: 'file',
    mode: 0o644,
    uid: 0,
    gid: 0,
    uname: none,
    gname: none,
    mtime: 0,
    mtimeNs: 0,
    size,
    link: none,
    devMajor: 0,
    devMinor: 0,
    xattrs: new Map(),
    pax: new Map(),
    extents: [{ fileOffset: 0, streamOffset: dataOffset, size }],
    sparse: false,
    headerOffset,
    dataOffset,
  };
}
