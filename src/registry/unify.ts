import { addAbortSignal } from 'node:stream';
import type { Readable } from 'node:stream';
import type { Descriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import { KeyedLock } from '../util/keyed-lock.ts';
import { RegistryError, hasCode } from './errors.ts';
import { checkRepository } from './names.ts';
import type {
  BlobReader,
  BlobWriter,
  CallOptions,
  ListOptions,
  ManifestContent,
  PushManifestOptions,
  ReferrersOptions,
  Registry,
} from './interface.ts';
import { mergedNames, mergedReferrers } from './unify/merged-lists.ts';
import { fastest, inBoth, inTurn, isAbsence, ofSide, weightier } from './unify/sides.ts';
import type { Pair } from './unify/sides.ts';
import { UnifiedUpload, partsOfId } from './unify/unified-upload.ts';

export interface UnifyOptions {
  /** Whether the second registry is asked for content only when the first has failed (the default), or both at once. */
  readonly read?: 'sequential' | 'concurrent' | undefined;
}

/**
 * Two registries as one.
 * - A write goes to both and must succeed in both. The error names the side that failed; nothing is taken back from the other, and the same write
 *   may be done again.
 * - Content comes from either. "Unknown" is the answer only when both say so; when one of them could not be asked, its error is.
 * - A tag is asked of both. Errors: RESPONSE_INVALID when they do not agree.
 * - A list has the items of both, and needs both. A delete succeeds when one side had the object.
 * - An upload that one side does not know any more, because it was committed there, begins anew.
 */
export function unify(first: Registry, second: Registry, options: UnifyOptions = {}): Registry {
  return new UnifiedRegistry([first, second], options.read ?? 'sequential');
}

class UnifiedRegistry implements Registry {
  readonly #sides: Pair<Registry>;
  readonly #read: 'sequential' | 'concurrent';
  /** Two that push one tag at once would leave each side with another of the two. */
  readonly #tags = new KeyedLock<string>();

  constructor(sides: Pair<Registry>, read: 'sequential' | 'concurrent') {
    this.#sides = sides;
    this.#read = read;
  }

  getBlob(repository: string, digest: Digest, options?: CallOptions): Promise<BlobReader> {
    return this.#content((side, each) => side.getBlob(repository, digest, each), options, close);
  }

  getBlobRange(
    repository: string,
    digest: Digest,
    start: number,
    end: number | undefined,
    options?: CallOptions,
  ): Promise<BlobReader> {
    return this.#content((side, each) => side.getBlobRange(repository, digest, start, end, each), options, close);
  }

  getManifest(repository: string, digest: Digest, options?: CallOptions): Promise<ManifestContent> {
    return this.#content((side, each) => side.getManifest(repository, digest, each), options);
  }

  async getTag(repository: string, tag: string, options?: CallOptions): Promise<ManifestContent> {
    const get = (side: Registry) => side.getTag(repository, tag, options);
    return await this.#tag(`${repository}:${tag}`, get, ({ descriptor }) => descriptor.digest, options);
  }

  resolveBlob(repository: string, digest: Digest, options?: CallOptions): Promise<Descriptor> {
    return this.#content((side, each) => side.resolveBlob(repository, digest, each), options);
  }

  resolveManifest(repository: string, digest: Digest, options?: CallOptions): Promise<Descriptor> {
    return this.#content((side, each) => side.resolveManifest(repository, digest, each), options);
  }

  async resolveTag(repository: string, tag: string, options?: CallOptions): Promise<Descriptor> {
    const resolve = (side: Registry) => side.resolveTag(repository, tag, options);
    return await this.#tag(`${repository}:${tag}`, resolve, ({ digest }) => digest, options);
  }

  /** `body` is called once for each side, and again where a side tries again. */
  async pushBlob(
    repository: string,
    descriptor: Descriptor,
    body: () => Readable,
    options?: CallOptions,
  ): Promise<Descriptor> {
    const broken = new Set<unknown>();
    const push = async (side: Registry, each: CallOptions) => {
      const open = () => {
        const stream = body().once('error', (error) => broken.add(error));
        // A side that waits for the body's next bytes would not see that the other one has failed.
        return each.signal === undefined ? stream : addAbortSignal(each.signal, stream);
      };
      return await side.pushBlob(repository, descriptor, open, each);
    };
    try {
      return (await inBoth(this.#sides, push, options))[0];
    } catch (error) {
      // The caller's stream is no fault of a side.
      throw error instanceof RegistryError && broken.has(error.cause) ? error.cause : error;
    }
  }

  async pushBlobChunked(repository: string, chunkSize: number | undefined, options?: CallOptions): Promise<BlobWriter> {
    const start = (side: Registry, each: CallOptions) => side.pushBlobChunked(repository, chunkSize, each);
    return new UnifiedUpload(await inBoth(this.#sides, start, options, (writer) => writer.cancel()));
  }

  /** Stands where the side stands that has less. Errors: RANGE_INVALID when `offset` is another place. */
  async resumeBlob(
    repository: string,
    id: string,
    offset: number | undefined,
    options?: CallOptions,
  ): Promise<BlobWriter> {
    checkRepository(repository);
    const [first, second] = this.#sides;
    const ids = partsOfId(id);
    if (ids === undefined) throw new RegistryError('BLOB_UPLOAD_UNKNOWN', `not an upload of ${repository}`);
    const parts = [
      { side: first, id: ids[0] },
      { side: second, id: ids[1] },
    ] as const;
    const resume = async (part: { readonly side: Registry; readonly id: string }, each: CallOptions) => {
      try {
        return await part.side.resumeBlob(repository, part.id, offset, each);
      } catch (error) {
        if (offset === undefined || !hasCode(error, 'RANGE_INVALID')) throw error;
        return await part.side.resumeBlob(repository, part.id, undefined, each);
      }
    };
    const upload = new UnifiedUpload(await inBoth(parts, resume, options, (writer) => writer.close()));
    if (offset === undefined || offset === upload.size) return upload;
    await upload.close();
    throw new RegistryError('RANGE_INVALID', `upload to ${repository} has ${upload.size} bytes, not ${offset}`);
  }

  async mountBlob(
    fromRepository: string,
    toRepository: string,
    digest: Digest,
    options?: CallOptions,
  ): Promise<Descriptor> {
    const mount = (side: Registry, each: CallOptions) => side.mountBlob(fromRepository, toRepository, digest, each);
    return (await inBoth(this.#sides, mount, options))[0];
  }

  async pushManifest(
    repository: string,
    tag: string | undefined,
    bytes: Uint8Array,
    mediaType: string,
    options?: PushManifestOptions,
  ): Promise<Descriptor> {
    const push = (side: Registry, each: CallOptions) =>
      side.pushManifest(repository, tag, bytes, mediaType, { ...options, ...each });
    const pushBoth = async () => (await inBoth(this.#sides, push, options))[0];
    return tag === undefined ? await pushBoth() : await this.#tags.run(`${repository}:${tag}`, pushBoth, options);
  }

  async deleteBlob(repository: string, digest: Digest, options?: CallOptions): Promise<void> {
    await this.#delete((side) => side.deleteBlob(repository, digest, options), options);
  }

  async deleteManifest(repository: string, digest: Digest, options?: CallOptions): Promise<void> {
    await this.#delete((side) => side.deleteManifest(repository, digest, options), options);
  }

  async deleteTag(repository: string, tag: string, options?: CallOptions): Promise<void> {
    await this.#delete((side) => side.deleteTag(repository, tag, options), options);
  }

  repositories(options?: ListOptions): AsyncIterable<string> {
    return mergedNames(this.#sides, (side, each) => side.repositories({ ...options, ...each }), options);
  }

  tags(repository: string, options?: ListOptions): AsyncIterable<string> {
    return mergedNames(this.#sides, (side, each) => side.tags(repository, { ...options, ...each }), options);
  }

  referrers(repository: string, digest: Digest, options?: ReferrersOptions): AsyncIterable<Descriptor> {
    const list = (side: Registry) => side.referrers(repository, digest, options);
    return mergedReferrers(this.#sides, list, options);
  }

  async #content<T>(
    work: (side: Registry, options: CallOptions) => Promise<T>,
    options: CallOptions = {},
    discard: (late: T) => void = () => {},
  ): Promise<T> {
    return this.#read === 'sequential'
      ? await inTurn(this.#sides, work, options)
      : await fastest(this.#sides, work, options, discard);
  }

  /** One unknown tag, or one side that could not be asked, leaves the other side's answer. */
  async #tag<T>(
    tag: string,
    work: (side: Registry) => Promise<T>,
    digestOf: (answer: T) => Digest,
    options: CallOptions = {},
  ): Promise<T> {
    const [first, second] = await settled(this.#sides, work);
    if (first.status === 'fulfilled' && second.status === 'fulfilled') {
      const digests = [digestOf(first.value), digestOf(second.value)] as const;
      if (digests[0] === digests[1]) return first.value;
      throw new RegistryError(
        'RESPONSE_INVALID',
        `tag ${tag} is ${digests[0]} in the first of two registries and ${digests[1]} in the second`,
      );
    }
    if (first.status === 'fulfilled') return first.value;
    if (second.status === 'fulfilled') return second.value;
    options.signal?.throwIfAborted();
    throw weightier(first.reason, second.reason);
  }

  /** Both are asked to the end: what is deleted in one only can be deleted again. */
  async #delete(work: (side: Registry) => Promise<void>, options: CallOptions = {}): Promise<void> {
    const [first, second] = await settled(this.#sides, work);
    if (first.status === 'fulfilled' && second.status === 'fulfilled') return;
    options.signal?.throwIfAborted();
    if (first.status === 'rejected' && second.status === 'rejected') throw weightier(first.reason, second.reason);
    if (first.status === 'rejected' && !isAbsence(first.reason)) throw ofSide(first.reason, 0);
    if (second.status === 'rejected' && !isAbsence(second.reason)) throw ofSide(second.reason, 1);
  }
}

async function settled<T>(
  [first, second]: Pair<Registry>,
  work: (side: Registry) => Promise<T>,
): Promise<Pair<PromiseSettledResult<T>>> {
  return await Promise.allSettled([(async () => await work(first))(), (async () => await work(second))()]);
}

function close(reader: BlobReader): void {
  reader.close();
}
