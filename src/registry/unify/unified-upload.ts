import type { Descriptor } from '../../oci/descriptor.ts';
import type { Digest } from '../../oci/digest.ts';
import { RegistryError, hasCode } from '../errors.ts';
import type { BlobWriter, CallOptions } from '../interface.ts';
import { inBoth } from './sides.ts';
import type { Pair } from './sides.ts';

/** Two uploads of some kilobytes' worth of URL each. */
const maxIdLength = 32 * 1024;

/**
 * One upload to two registries. After a failure they may stand at different offsets. The upload stands at the smaller one, and a side that is
 * ahead is not given again what it has: it takes its part of a chunk from where it stands. That the bytes sent again are the same ones is proved by the commit.
 */
export class UnifiedUpload implements BlobWriter {
  readonly #sides: Pair<BlobWriter>;

  constructor(sides: Pair<BlobWriter>) {
    this.#sides = sides;
  }

  get id(): string {
    return Buffer.from(JSON.stringify(this.#sides.map(({ id }) => id))).toString('base64url');
  }

  get size(): number {
    return Math.min(...this.#sides.map(({ size }) => size));
  }

  get chunkSize(): number {
    return Math.max(...this.#sides.map(({ chunkSize }) => chunkSize));
  }

  async write(chunk: Uint8Array, options?: CallOptions): Promise<void> {
    const start = this.size;
    const writeRest = async (side: BlobWriter, both: CallOptions) => {
      const rest = chunk.subarray(side.size - start);
      if (rest.byteLength > 0) await side.write(rest, both);
    };
    await inBoth(this.#sides, writeRest, options);
  }

  async close(): Promise<void> {
    await inBoth(this.#sides, async (side) => await side.close());
  }

  /** Errors: BLOB_UPLOAD_INVALID when one side still waits for bytes that the other has. */
  async commit(digest: Digest, options?: CallOptions): Promise<Descriptor> {
    try {
      const [first, second] = this.#sides;
      if (first.size !== second.size) {
        throw new RegistryError(
          'BLOB_UPLOAD_INVALID',
          `upload of ${digest} has ${first.size} bytes in the first of two registries and ${second.size} in the second`,
        );
      }
      const [descriptor] = await inBoth(this.#sides, async (side, both) => await side.commit(digest, both), options);
      return descriptor;
    } catch (error) {
      // The side that was aborted is open; what cannot become this blob in one registry cannot in the other.
      const leave = async (side: BlobWriter) => await (hasCode(error, 'DIGEST_INVALID') ? side.cancel() : side.close());
      await Promise.allSettled(this.#sides.map(leave));
      throw error;
    }
  }

  async cancel(): Promise<void> {
    await inBoth(this.#sides, async (side) => await side.cancel());
  }
}

/** The ids of the two uploads; undefined when `id` is not one of ours. */
export function partsOfId(id: string): Pair<string> | undefined {
  if (id.length > maxIdLength) return undefined;
  let parts: unknown;
  try {
    parts = JSON.parse(Buffer.from(id, 'base64url').toString('utf8'));
  } catch {
    return undefined;
  }
  if (!Array.isArray(parts) || parts.length !== 2) return undefined;
  const [first, second] = parts as unknown[];
  return typeof first === 'string' && typeof second === 'string' ? [first, second] : undefined;
}
