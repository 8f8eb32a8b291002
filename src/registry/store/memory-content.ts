import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Digest, DigestAlgorithm } from '../../oci/digest.ts';
import { contentHash } from '../blob-content.ts';
import { RegistryError } from '../errors.ts';
import type { CallOptions } from '../interface.ts';

const smallestBlock = 1024;
const largestBlock = 1024 * 1024;

/** What all content of a registry in memory may take together. */
export class MemoryBudget {
  readonly maxBytes: number;
  #used = 0;

  constructor(maxBytes: number) {
    this.maxBytes = maxBytes;
  }

  get used(): number {
    return this.#used;
  }

  /** Errors: TOO_LARGE. */
  take(bytes: number): void {
    if (this.#used + bytes > this.maxBytes) {
      throw new RegistryError(
        'TOO_LARGE',
        `the registry in memory holds ${this.#used} bytes, and ${bytes} more are above its limit of ${this.maxBytes}`,
      );
    }
    this.#used += bytes;
  }

  give(bytes: number): void {
    this.#used -= bytes;
  }
}

/** Bytes that grow at the end, in blocks that become larger with them, so that neither many small writes nor one large copy cost much. */
export class MemoryContent {
  readonly #blocks: Uint8Array[] = [];
  #size = 0;
  #room = 0;

  get size(): number {
    return this.#size;
  }

  append(bytes: Uint8Array): void {
    for (let done = 0; done < bytes.byteLength; ) {
      if (this.#room === 0) this.#addBlock(bytes.byteLength - done);
      const block = this.#blocks.at(-1) as Uint8Array;
      const piece = bytes.subarray(done, done + this.#room);
      block.set(piece, block.byteLength - this.#room);
      this.#room -= piece.byteLength;
      this.#size += piece.byteLength;
      done += piece.byteLength;
    }
  }

  /** Gives back what the last block has to spare. */
  trim(): void {
    const last = this.#blocks.pop();
    if (last === undefined) return;
    this.#blocks.push(this.#room === 0 ? last : last.slice(0, last.byteLength - this.#room));
    this.#room = 0;
  }

  *read(start: number, end: number): Generator<Buffer> {
    let at = 0;
    for (const block of this.#blocks) {
      const [from, to] = [Math.max(start - at, 0), Math.min(end - at, block.byteLength)];
      // Copied: what a reader does to its bytes is not done to ours.
      if (from < to) yield Buffer.from(block.subarray(from, to));
      at += block.byteLength;
      if (at >= end) return;
    }
  }

  /** Lets others run between the blocks. Errors: the signal's reason. */
  async digest(algorithm: DigestAlgorithm, options: CallOptions): Promise<Digest> {
    const hash = contentHash(algorithm);
    let left = this.#size;
    for (const block of this.#blocks) {
      options.signal?.throwIfAborted();
      hash.update(block.subarray(0, left));
      left -= block.byteLength;
      if (block.byteLength === largestBlock) await nextTurn();
    }
    return hash.digest();
  }

  #addBlock(wanted: number): void {
    const length = Math.min(Math.max(wanted, this.#size, smallestBlock), largestBlock);
    this.#blocks.push(new Uint8Array(length));
    this.#room = length;
  }
}
