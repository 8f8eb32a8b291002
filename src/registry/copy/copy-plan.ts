// Which manifests and blobs belong to a copy, read from the source before anything is written.
import type { Descriptor } from '../../oci/descriptor.ts';
import { isDigest } from '../../oci/digest.ts';
import type { Digest } from '../../oci/digest.ts';
import { OciError } from '../../oci/errors.ts';
import { parseManifestOrIndex } from '../../oci/manifest.ts';
import type { ImageIndex, Manifest } from '../../oci/manifest.ts';
import { isIndexType, isManifestType } from '../../oci/media-type.ts';
import { formatPlatform, selectManifest } from '../../oci/platform.ts';
import type { Platform } from '../../oci/platform.ts';
import { forEach } from '../../util/for-each.ts';
import { RegistryError, hasCode } from '../errors.ts';
import type { CallOptions, ManifestContent, Reader, Lister } from '../interface.ts';
import { nameOfManifest, requiredBlobs } from '../manifest-check.ts';

export interface CopySource {
  readonly registry: Reader & Lister;
  readonly repository: string;
  /** A tag or a digest. */
  readonly reference: string;
}

export interface PlanOptions extends CallOptions {
  readonly platform?: Platform | undefined;
  readonly referrers?: boolean | undefined;
  /** Manifests that are fetched at once. */
  readonly jobs: number;
}

export interface PlannedManifest extends ManifestContent {
  readonly document: Manifest | ImageIndex;
}

export interface CopyPlan {
  /** What the reference names, or the one platform of it. */
  readonly root: PlannedManifest;
  /** Each once; the manifests of an index before it, referrers after their subject. */
  readonly manifests: readonly PlannedManifest[];
  /** Each once. */
  readonly blobs: readonly Descriptor[];
  /** Layers that lie elsewhere and stay there. */
  readonly foreign: readonly Digest[];
  /** Referrers that are listed but not there, or of a format that is not known, so that nobody can say what belongs to them. */
  readonly skipped: readonly Digest[];
}

const limits = { depth: 8, manifests: 10_000, bytes: 256 * 1024 * 1024 };

/** Errors: those of reading; MANIFEST_INVALID, TOO_LARGE; MANIFEST_UNKNOWN when there is no such platform. */
export async function planCopy(source: CopySource, options: PlanOptions): Promise<CopyPlan> {
  const planner = new Planner(source, options);
  const root = await planner.root();
  await planner.addTree(root);
  if (options.referrers === true) await planner.addReferrers();
  const { manifests, blobs, foreign, skipped } = planner;
  return { root, manifests, blobs, foreign: [...foreign], skipped: [...skipped] };
}

class Planner {
  readonly manifests: PlannedManifest[] = [];
  readonly blobs: Descriptor[] = [];
  readonly foreign = new Set<Digest>();
  readonly skipped = new Set<Digest>();
  readonly #source: CopySource;
  readonly #options: PlanOptions;
  readonly #seen = new Set<Digest>();
  readonly #seenBlobs = new Set<Digest>();
  #bytes = 0;

  constructor(source: CopySource, options: PlanOptions) {
    this.#source = source;
    this.#options = options;
  }

  async root(): Promise<PlannedManifest> {
    const { registry, repository, reference } = this.#source;
    let root = isDigest(reference)
      ? await this.#fetch(reference)
      : this.#checked(await registry.getTag(repository, reference, this.#options));
    const { platform } = this.#options;
    if (platform === undefined) return root;
    for (let depth = 0; root.document.kind === 'index'; depth += 1) {
      this.#checkDepth(depth, root);
      root = await this.#fetch(choose(root.document, platform, reference).digest);
    }
    return root;
  }

  /** A manifest, and those of an index before it. */
  async addTree(manifest: PlannedManifest, depth = 0): Promise<void> {
    const { document, descriptor } = manifest;
    if (this.#seen.has(descriptor.digest)) return;
    this.#checkDepth(depth, manifest);
    this.#seen.add(descriptor.digest);
    if (document.kind === 'index') {
      for (const child of await this.#fetchAll(document.manifests.map(({ digest }) => digest)))
        await this.addTree(child, depth + 1);
    } else {
      this.#addBlobs(document);
    }
    this.manifests.push(manifest);
  }

  /** Of every manifest of the plan, also of those that this adds. */
  async addReferrers(): Promise<void> {
    const { registry, repository } = this.#source;
    for (const subject of this.manifests) {
      const found: Digest[] = [];
      let count = 0;
      for await (const { digest, mediaType } of registry.referrers(
        repository,
        subject.descriptor.digest,
        this.#options,
      )) {
        this.#checkCount((count += 1));
        if (isManifestType(mediaType) || isIndexType(mediaType)) found.push(digest);
        else this.skipped.add(digest);
      }
      for (const manifest of await this.#fetchAll(found, (digest) => this.skipped.add(digest)))
        await this.addTree(manifest);
    }
  }

  #addBlobs(manifest: Manifest): void {
    const required = requiredBlobs(manifest);
    for (const blob of required) {
      if (this.#seenBlobs.has(blob.digest)) continue;
      this.#seenBlobs.add(blob.digest);
      this.blobs.push(blob);
    }
    for (const layer of manifest.layers) if (!required.includes(layer)) this.foreign.add(layer.digest);
  }

  /** In the order of `digests`, without those that are in the plan. One that is not there is an error, unless `onMissing` takes it. */
  async #fetchAll(digests: readonly Digest[], onMissing?: (digest: Digest) => void): Promise<PlannedManifest[]> {
    const wanted = [...new Set(digests)].filter((digest) => !this.#seen.has(digest));
    this.#checkCount(wanted.length);
    const fetched = new Map<Digest, PlannedManifest>();
    const fetch = async (digest: Digest, signal: AbortSignal) => {
      try {
        fetched.set(digest, await this.#fetch(digest, signal));
      } catch (error) {
        if (onMissing === undefined || !hasCode(error, 'MANIFEST_UNKNOWN')) throw error;
        onMissing(digest);
      }
    };
    await forEach(wanted, this.#options.jobs, fetch, this.#options);
    return wanted.flatMap((digest) => fetched.get(digest) ?? []);
  }

  async #fetch(digest: Digest, signal = this.#options.signal): Promise<PlannedManifest> {
    const { registry, repository } = this.#source;
    return this.#checked(await registry.getManifest(repository, digest, { signal }), digest);
  }

  #checked({ bytes, descriptor }: ManifestContent, digest = descriptor.digest): PlannedManifest {
    this.#bytes += bytes.byteLength;
    if (this.#bytes > limits.bytes)
      throw new RegistryError('TOO_LARGE', `${this.#name} has more than ${limits.bytes} bytes of manifests`);
    nameOfManifest(bytes, digest);
    try {
      const document = parseManifestOrIndex(bytes, descriptor.mediaType);
      return { document, bytes, descriptor: { mediaType: document.mediaType, digest, size: bytes.byteLength } };
    } catch (cause) {
      if (!(cause instanceof OciError)) throw cause;
      throw new RegistryError('MANIFEST_INVALID', `${digest} of ${this.#name}: ${cause.message}`, { cause });
    }
  }

  #checkCount(more: number): void {
    if (this.manifests.length + this.skipped.size + more > limits.manifests)
      throw new RegistryError('TOO_LARGE', `${this.#name} has more than ${limits.manifests} manifests`);
  }

  #checkDepth(depth: number, { descriptor }: PlannedManifest): void {
    if (depth > limits.depth)
      throw new RegistryError(
        'MANIFEST_INVALID',
        `${descriptor.digest}: indexes nested more than ${limits.depth} deep`,
      );
  }

  get #name(): string {
    const { repository, reference } = this.#source;
    if (repository === '') return reference;
    return `${repository}${isDigest(reference) ? '@' : ':'}${reference}`;
  }
}

function choose(index: ImageIndex, platform: Platform, reference: string): Descriptor {
  const chosen = selectManifest(index.manifests, platform);
  if (chosen !== undefined) return chosen;
  const there = index.manifests.flatMap((manifest) => (manifest.platform ? [formatPlatform(manifest.platform)] : []));
  throw new RegistryError(
    'MANIFEST_UNKNOWN',
    `${reference} has no image for ${formatPlatform(platform)}: it has ${there.slice(0, 20).join(', ')}`,
  );
}
