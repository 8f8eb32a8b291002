// Gzip blobs with blocks that the usual tools make seldom or not at all.
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { constants, createDeflateRaw, gzipSync, inflateRawSync } from 'node:zlib';
import { noise } from '../index/layers.ts';
import { random } from './damage.ts';
import { runOk } from './run.ts';
import { tarOf } from './tar-members.ts';

const windowSize = 32_768;
const longestMatch = 258;

/** Between text and noise, with back references over the whole window, and without zeros. */
export function backReferring(size: number, seed: number): Buffer {
  const below = random(seed);
  const bytes = Buffer.alloc(size);
  for (let at = 0; at < size; ) {
    const end = Math.min(size, at + 1 + below(60));
    const back = at > 100 && below(10) < 6 ? 1 + below(Math.min(at, windowSize)) : 0;
    for (; at < end; at++) bytes[at] = back > 0 ? (bytes[at - back] as number) : 1 + below(100);
  }
  return bytes;
}

export interface GoGzipOptions {
  readonly level: number;
  /** Bytes that go in between two calls of `Flush`, or at level 1 into one block. */
  readonly pieces: number;
  readonly flush: 'Z_BLOCK' | 'Z_SYNC_FLUSH';
}

/**
 * Gzip with the blocks that Go's compress/gzip writes, made with zlib: at level 1 one block for every 65 535 bytes, with references over
 * their borders; after `Flush` an empty stored block; and as the last block, always, an empty stored one. Its header has no time, and 255
 * for the system.
 */
export async function goGzip(plain: Uint8Array, { level, pieces, flush }: GoGzipOptions): Promise<Buffer> {
  const deflate = createDeflateRaw({ level, memLevel: level === 1 ? 9 : 8 });
  const out: Buffer[] = [];
  deflate.on('data', (chunk: Buffer) => out.push(chunk));
  const flushed = (kind: GoGzipOptions['flush']) => new Promise<void>((done) => deflate.flush(constants[kind], done));
  for (let at = 0; at < plain.length; at += pieces) {
    deflate.write(plain.subarray(at, at + pieces));
    await flushed(flush);
  }
  if (flush === 'Z_BLOCK') await flushed('Z_SYNC_FLUSH');
  deflate.destroy();
  const header = Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, level === 1 ? 4 : 0, 255]);
  return Buffer.concat([header, lastAtItsEnd(Buffer.concat(out), plain), trailer(plain)]);
}

/** `deflated` ends with an empty stored block, which is made the last one: the bit in front of its kind is set. */
function lastAtItsEnd(deflated: Buffer, plain: Uint8Array): Buffer {
  const lengths = 8 * (deflated.length - 4);
  for (let bit = lengths - 3; bit > lengths - 11; bit--) {
    const tried = Buffer.from(deflated);
    tried[bit >> 3] = (tried[bit >> 3] as number) | (1 << (bit & 7));
    try {
      if (inflateRawSync(tried).equals(plain)) return tried;
    } catch {
      // It was a bit of something else, and there is no end.
    }
  }
  throw new Error('no empty stored block at the end');
}

/** The layer that umoci, which is written in Go, makes of the file `tar`. */
export async function umociGzip(tar: string, dir: string): Promise<Buffer> {
  const layout = path.join(dir, 'layout');
  await runOk('umoci', ['init', '--layout', layout]);
  await runOk('umoci', ['new', '--image', `${layout}:a`]);
  await runOk('umoci', ['raw', 'add-layer', '--image', `${layout}:a`, tar]);
  const blob = (digest: string) => readFile(path.join(layout, 'blobs', digest.replace(':', '/')));
  const index = JSON.parse(await readFile(path.join(layout, 'index.json'), 'utf8'));
  const manifest = JSON.parse((await blob(index.manifests[0].digest)).toString());
  return await blob(manifest.layers[0].digest);
}

/** A layer with one file, all of it a single block with the fixed codes: 32 KiB of literals, then matches from all over the window. */
export function oneBlockLayer(size: number): { readonly tar: Buffer; readonly blob: Buffer } {
  const matches = Math.ceil((size - windowSize) / longestMatch);
  const data = Buffer.alloc(windowSize + matches * longestMatch);
  data.set(noise(windowSize));
  const below = random(matches);
  const distances = Array.from({ length: matches }, () => longestMatch + below(windowSize - longestMatch + 1));
  for (const [i, distance] of distances.entries()) {
    const at = windowSize + i * longestMatch;
    data.copyWithin(at, at - distance, at - distance + longestMatch);
  }
  const tar = tarOf({ path: 'file', data });
  const begin = tar.length - data.length - 1024 - ((512 - (data.length % 512)) % 512);
  const block = new FixedBlock();
  for (const byte of tar.subarray(0, begin + windowSize)) block.literal(byte);
  for (const distance of distances) block.longest(distance);
  for (const byte of tar.subarray(begin + data.length)) block.literal(byte);
  const header = Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
  return { tar, blob: Buffer.concat([header, block.end(), trailer(tar)]) };
}

function trailer(plain: Uint8Array): Buffer {
  return gzipSync(plain, { level: 0 }).subarray(-8);
}

/** RFC 1951 section 3.2.6. */
class FixedBlock {
  readonly #bytes: number[] = [];
  #bits = 0;
  #count = 0;

  constructor() {
    this.#put(0b011, 3);
  }

  literal(byte: number): void {
    if (byte < 144) this.#code(0x30 + byte, 8);
    else this.#code(0x190 + byte - 144, 9);
  }

  /** A match of 258 bytes. */
  longest(distance: number): void {
    this.#code(0xc5, 8);
    const extra = Math.max(0, 30 - Math.clz32(distance - 1));
    const code = distance <= 4 ? distance - 1 : 2 * extra + ((distance - 1) >> extra);
    this.#code(code, 5);
    this.#put((distance - 1) & ((1 << extra) - 1), extra);
  }

  end(): Buffer {
    this.#code(0, 7);
    this.#put(0, 7);
    return Buffer.from(this.#bytes);
  }

  /** Huffman codes begin with their highest bit. */
  #code(code: number, length: number): void {
    let reversed = 0;
    for (let i = 0; i < length; i++) reversed |= ((code >> i) & 1) << (length - 1 - i);
    this.#put(reversed, length);
  }

  #put(bits: number, length: number): void {
    this.#bits |= bits << this.#count;
    this.#count += length;
    for (; this.#count >= 8; this.#count -= 8) {
      this.#bytes.push(this.#bits & 0xff);
      this.#bits >>>= 8;
    }
  }
}
