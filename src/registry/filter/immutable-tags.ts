import type { Descriptor } from '../../oci/descriptor.ts';
import type { Digest } from '../../oci/digest.ts';
import { OciError } from '../../oci/errors.ts';
import { parseManifestOrIndex } from '../../oci/manifest.ts';
import { baseMediaType } from '../../oci/media-type.ts';
import { KeyedLock } from '../../util/keyed-lock.ts';
import { RegistryError, hasCode } from '../errors.ts';
import { ForwardingRegistry } from '../forwarding-registry.ts';
import type { CallOptions, PushManifestOptions, Registry } from '../interface.ts';
import { nameOfManifest } from '../manifest-check.ts';
import { checkRepository, checkTag } from '../names.ts';

export interface ImmutableTagsOptions {
  /** Which tags are protected; all of them by default. Tags of the referrers fallback move by their nature: leave them out where it is used. */
  readonly match?: ((repository: string, tag: string) => boolean) | undefined;
}

/**
 * A tag, once pushed, keeps its manifest. DENIED is to push another one under it, to delete it, and to delete or to give another media type
 * to what it needs: its manifest, what that lists when it is an index, their configs and layers. Pushes and deletes through one such filter wait for each other
 * within a repository. Of several such filters over one store, also in several processes, one gives a new tag. A registry over HTTP cannot be asked for
 * that: there another that pushes the same new tag in the same moment may replace it once, and whoever finds it replaced after its own push is DENIED. A
 * delete through one filter does not wait for a push through another.
 *
 * A delete looks at every protected tag of the repository.
 */
export function immutableTags(registry: Registry, options: ImmutableTagsOptions = {}): Registry {
  return new ImmutableTags(registry, options.match ?? (() => true));
}

class ImmutableTags extends ForwardingRegistry {
  readonly #protects: (repository: string, tag: string) => boolean;
  readonly #changes = new KeyedLock<string>();

  constructor(inner: Registry, protects: (repository: string, tag: string) => boolean) {
    super(inner);
    this.#protects = protects;
  }

  override async pushManifest(
    repository: string,
    tag: string | undefined,
    bytes: Uint8Array,
    mediaType: string,
    options: PushManifestOptions = {},
  ): Promise<Descriptor> {
    checkRepository(repository);
    if (tag !== undefined) checkTag(tag);
    const digest = nameOfManifest(bytes, options.digest);
    const push = (ifAbsent = options.ifAbsent) =>
      super.pushManifest(repository, tag, bytes, mediaType, { ...options, ifAbsent });
    return await this.#changes.run(
      repository,
      async () => {
        await this.#mustKeepMediaType(repository, digest, mediaType, options);
        if (tag === undefined || !this.#protects(repository, tag)) return await push();
        const before = await ifKnown(super.resolveTag(repository, tag, options));
        if (before !== undefined && before.digest !== digest) {
          throw denied(`tag ${repository}:${tag} is immutable and is ${before.digest}, not ${digest}`);
        }
        const pushed = await push(true);
        const after = await super.resolveTag(repository, tag, options);
        if (after.digest === digest) return pushed;
        throw denied(
          `tag ${repository}:${tag} is immutable and was pushed by another at the same time, as ${after.digest}`,
        );
      },
      options,
    );
  }

  override async deleteTag(repository: string, tag: string, options?: CallOptions): Promise<void> {
    if (this.#protects(checkRepository(repository), checkTag(tag))) {
      throw denied(`tag ${repository}:${tag} is immutable`);
    }
    await super.deleteTag(repository, tag, options);
  }

  override async deleteManifest(repository: string, digest: Digest, options: CallOptions = {}): Promise<void> {
    const remove = () => super.deleteManifest(repository, digest, options);
    await this.#changes.run(
      repository,
      async () => {
        await this.#mustBeFree(repository, digest, options);
        await remove();
      },
      options,
    );
  }

  override async deleteBlob(repository: string, digest: Digest, options: CallOptions = {}): Promise<void> {
    const remove = () => super.deleteBlob(repository, digest, options);
    await this.#changes.run(
      repository,
      async () => {
        await this.#mustBeFree(repository, digest, options);
        await remove();
      },
      options,
    );
  }

  /** The same bytes under another type would be another thing to who pulls them. */
  async #mustKeepMediaType(repository: string, digest: Digest, mediaType: string, options: CallOptions): Promise<void> {
    const held = await ifKnown(super.resolveManifest(repository, digest, options));
    if (held === undefined || baseMediaType(held.mediaType) === baseMediaType(mediaType)) return;
    await this.#mustBeFree(repository, digest, options);
  }

  async #mustBeFree(repository: string, digest: Digest, options: CallOptions): Promise<void> {
    const seen = new Set<Digest>();
    try {
      for await (const tag of super.tags(repository, { signal: options.signal })) {
        if (!this.#protects(repository, tag)) continue;
        const root = await ifKnown(super.resolveTag(repository, tag, options));
        if (root !== undefined && (await this.#reaches(repository, root.digest, digest, seen, options))) {
          throw denied(`${digest} belongs to the immutable tag ${repository}:${tag}`);
        }
      }
    } catch (error) {
      if (!hasCode(error, 'NAME_UNKNOWN')) throw error;
    }
  }

  /** Adds what it has looked at to `seen`, and does not look at it again. */
  async #reaches(
    repository: string,
    root: Digest,
    wanted: Digest,
    seen: Set<Digest>,
    options: CallOptions,
  ): Promise<boolean> {
    const waiting = [root];
    for (let digest = waiting.pop(); digest !== undefined; digest = waiting.pop()) {
      if (digest === wanted) return true;
      if (seen.has(digest)) continue;
      seen.add(digest);
      const content = await ifKnown(super.getManifest(repository, digest, options));
      if (content === undefined) continue;
      const { manifests, blobs } = namedBy(content.bytes, content.descriptor.mediaType);
      if (blobs.includes(wanted)) return true;
      waiting.push(...manifests);
    }
    return false;
  }
}

/** Nothing for documents of other types. */
function namedBy(bytes: Uint8Array, mediaType: string): { readonly manifests: Digest[]; readonly blobs: Digest[] } {
  let document;
  try {
    document = parseManifestOrIndex(bytes, mediaType);
  } catch (error) {
    if (error instanceof OciError) return { manifests: [], blobs: [] };
    throw error;
  }
  if (document.kind === 'index') return { manifests: document.manifests.map((child) => child.digest), blobs: [] };
  return { manifests: [], blobs: [document.config, ...document.layers].map((blob) => blob.digest) };
}

async function ifKnown<T>(found: Promise<T>): Promise<T | undefined> {
  try {
    return await found;
  } catch (error) {
    if (hasCode(error, 'MANIFEST_UNKNOWN', 'NAME_UNKNOWN')) return undefined;
    throw error;
  }
}

function denied(message: string): RegistryError {
  return new RegistryError('DENIED', message);
}
