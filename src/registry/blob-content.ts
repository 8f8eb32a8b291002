// Checking content against its digest, in memory and while it streams by.
import { createHash } from 'node:crypto';
import { Transform } from 'node:stream';
import type { TransformCallback } from 'node:stream';
import { digestAlgorithm, digestFromSha256 } from '../oci/digest.ts';
import type { Digest, DigestAlgorithm } from '../oci/digest.ts';
import { RegistryError } from './errors.ts';

export function digestOf(bytes: Uint8Array, algorithm: DigestAlgorithm = 'sha256'): Digest {
  const hash = createHash(algorithm).update(bytes);
  return algorithm === 'sha256' ? digestFromSha256(hash.digest()) : (`sha512:${hash.digest('hex')}` as Digest);
}

export interface ContentHash {
  update(bytes: Uint8Array): void;
  /** The digest of all bytes given so far; nothing can be added after. */
  digest(): Digest;
}

export function contentHash(algorithm: DigestAlgorithm): ContentHash {
  const hash = createHash(algorithm);
  return {
    update: (bytes) => void hash.update(bytes),
    digest: () => `${algorithm}:${hash.digest('hex')}` as Digest,
  };
}

/** Passes bytes on, and fails at the end unless they were `size` bytes that hash to `digest`. Errors: SIZE_INVALID, DIGEST_INVALID, on the stream. */
export class VerifyingStream extends Transform {
  readonly #digest: Digest;
  readonly #size: number;
  readonly #hash: ContentHash;
  #seen = 0;

  constructor(digest: Digest, size: number) {
    super();
    this.#digest = digest;
    this.#size = size;
    this.#hash = contentHash(digestAlgorithm(digest));
  }

  override _transform(chunk: Uint8Array, _encoding: BufferEncoding, callback: TransformCallback): void {
    this.#seen += chunk.byteLength;
    if (this.#seen > this.#size) {
      callback(new RegistryError('SIZE_INVALID', `${this.#digest} has more than the ${this.#size} bytes announced`));
      return;
    }
    this.#hash.update(chunk);
    callback(null, chunk);
  }

  override _flush(callback: TransformCallback): void {
    callback(contentProblem(this.#digest, this.#size, this.#hash.digest(), this.#seen));
  }
}

/** Null when the content is what was announced. */
export function contentProblem(digest: Digest, size: number, actual: Digest, seen: number): RegistryError | null {
  if (seen !== size) return new RegistryError('SIZE_INVALID', `${digest} has ${seen} bytes, not the ${size} announced`);
  if (actual !== digest) return new RegistryError('DIGEST_INVALID', `content announced as ${digest} is ${actual}`);
  return null;
}
