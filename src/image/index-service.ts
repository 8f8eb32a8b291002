// Making, keeping and publishing the seekable indexes of images: what the `index` commands do.
import { readSociIndex } from '../index/soci-index.ts';
import type { SociIndex } from '../index/soci-index.ts';
import { sociIndexTypes } from '../index/soci-names.ts';
import { readZtoc } from '../index/ztoc-reader.ts';
import type { Logger } from '../observe/log.ts';
import type { ProgressSink } from '../observe/progress.ts';
import type { Digest } from '../oci/digest.ts';
import { isDigest } from '../oci/digest.ts';
import { formatPlatform } from '../oci/platform.ts';
import type { Platform } from '../oci/platform.ts';
import { formatReference, parseReference } from '../oci/reference.ts';
import type { IndexRow } from '../state/indexes.ts';
import type { State } from '../state/state.ts';
import type { ContentStore } from './content-store.ts';
import type { ContentFetcher } from './content.ts';
import { readSmallBlob } from './content.ts';
import { createIndex } from './create-index.ts';
import type { LayerOutcome } from './create-index.ts';
import { ImageError } from './errors.ts';
import type { OpenOrigin, Origin } from './origin.ts';
import { pushIndex } from './push-index.ts';
import { imageErrorFrom } from './registry-errors.ts';
import { resolveAllPlatforms, resolveImage } from './resolve.ts';
import type { ResolvedImage } from './resolve.ts';

export interface IndexServiceDeps {
  readonly openOrigin: OpenOrigin;
  readonly state: State;
  readonly content: ContentFetcher;
  readonly store: ContentStore;
  readonly log: Logger;
}

export interface ChooseImages {
  readonly platform?: Platform | undefined;
  readonly allPlatforms?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface CreateIndexOptions extends ChooseImages {
  /** Stream bytes per span; default 4 MiB. */
  readonly spanSize?: number | undefined;
  /** Smaller blobs get no zTOC; default 10 MiB. */
  readonly minLayerSize?: number | undefined;
  readonly push?: boolean | undefined;
  readonly onProgress?: ProgressSink | undefined;
}

export interface IndexReport {
  readonly reference: string;
  readonly image: Digest;
  readonly platform: string | undefined;
  /** Undefined when no layer got a zTOC. */
  readonly index: Digest | undefined;
  readonly layers: readonly LayerOutcome[];
  readonly pushed: boolean;
}

/** One layer's zTOC; counts are undefined when its bytes are not at hand. */
export interface IndexLayerInfo {
  readonly layer: Digest;
  readonly ztoc: Digest;
  /** Bytes of the zTOC. */
  readonly size: number;
  readonly spanSize: number | undefined;
  readonly spans: number | undefined;
  readonly entries: number | undefined;
}

export interface IndexInfoReport {
  readonly index: Digest;
  readonly version: 'v1' | 'v2';
  readonly image: Digest | undefined;
  readonly buildTool: string | undefined;
  readonly source: string;
  readonly layers: readonly IndexLayerInfo[];
}

const maxZtocBytes = 256 << 20;

export class IndexService {
  readonly #d: IndexServiceDeps;

  constructor(deps: IndexServiceDeps) {
    this.#d = deps;
  }

  /**
   * Downloads every layer that is large enough and indexes it; the index is kept on this node, and pushed when asked.
   * Errors: ERR_IMAGE_INDEX when no layer of any image gets a zTOC; ImageError, IndexError for a damaged layer.
   */
  async create(reference: string, options: CreateIndexOptions = {}): Promise<IndexReport[]> {
    const { origin, images } = await this.#resolve(reference, options);
    const reports: IndexReport[] = [];
    for (const image of images) {
      const created = await createIndex(this.#d, origin, image, options);
      const pushed = created.index !== undefined && options.push === true;
      if (pushed) await pushIndex(this.#d.content, origin, created.index, options.signal);
      reports.push({ ...reportHead(image), ...created, pushed });
    }
    if (!reports.some(({ index }) => index !== undefined)) {
      const why = [...new Set(reports.flatMap(({ layers }) => layers.map(({ skipped }) => skipped ?? '')))];
      throw new ImageError('ERR_IMAGE_INDEX', `no layer of ${reference} gets an index: ${why.join('; ')}`);
    }
    return reports;
  }

  /** Publishes an index made here as a referrer of its image. Errors: ERR_IMAGE_INDEX when there is none; ImageError. */
  async push(
    reference: string,
    options: ChooseImages = {},
  ): Promise<{ readonly image: Digest; readonly index: Digest }[]> {
    const { origin, images } = await this.#resolve(reference, options);
    const pushed: { image: Digest; index: Digest }[] = [];
    for (const { descriptor } of images) {
      const index = this.#d.state.indexes.get(descriptor.digest, 'soci')?.digest;
      if (index === undefined) continue;
      await pushIndex(this.#d.content, origin, index, options.signal);
      pushed.push({ image: descriptor.digest, index });
    }
    if (pushed.length === 0)
      throw new ImageError('ERR_IMAGE_INDEX', `this node has no index of ${reference}: peel index create makes one`);
    return pushed;
  }

  /** Indexes known on this node, newest first. */
  list(): IndexRow[] {
    return this.#d.state.indexes.list();
  }

  /** Indexes that the image's registry has for it. Errors: ImageError. */
  async listRemote(
    reference: string,
    options: ChooseImages = {},
  ): Promise<{ readonly image: Digest; readonly index: Digest; readonly size: number }[]> {
    const { origin, images } = await this.#resolve(reference, options);
    const found: { image: Digest; index: Digest; size: number }[] = [];
    try {
      for (const { descriptor } of images) {
        const query = { artifactType: sociIndexTypes.v1, signal: options.signal };
        for await (const { digest, size } of origin.registry.referrers(origin.repository, descriptor.digest, query)) {
          found.push({ image: descriptor.digest, index: digest, size });
        }
      }
    } catch (error) {
      throw imageErrorFrom(error, reference);
    }
    return found;
  }

  /** An index by its digest, or the one of an image. Errors: ERR_IMAGE_INDEX when it is not known here; IndexError. */
  async show(target: string, options: ChooseImages = {}): Promise<IndexInfoReport> {
    const {
      rows: [row],
      origin,
    } = await this.#find(target, options);
    const digest = row.digest as Digest;
    const content =
      (await this.#d.content.local(digest)) ??
      (origin === undefined ? undefined : await this.#d.content.manifest(origin, digest, options));
    if (content === undefined)
      throw new ImageError('ERR_IMAGE_INDEX', `index ${digest} is not on this node: name the image instead`);
    const index = readSociIndex(content.bytes);
    const layers: IndexLayerInfo[] = [];
    for (const layer of index.layers) layers.push(await this.#layerInfo(layer, origin, options));
    return {
      index: digest,
      version: index.version,
      image: row.image,
      buildTool: index.buildTool,
      source: row.source,
      layers,
    };
  }

  /** Forgets indexes on this node, with what they keep; the registry's copies stay. Errors: ERR_IMAGE_INDEX. */
  async remove(target: string, options: ChooseImages = {}): Promise<Digest[]> {
    const { rows } = await this.#find(target, options);
    const digests = [...new Set(rows.map(({ digest }) => digest as Digest))];
    for (const digest of digests) await this.#forget(digest);
    return digests;
  }

  async #forget(digest: Digest): Promise<void> {
    const content = await this.#d.content.local(digest);
    const kept = new Set<Digest>();
    for (const other of this.#d.state.indexes.list()) {
      const bytes =
        other.digest === undefined || other.digest === digest
          ? undefined
          : (await this.#d.content.local(other.digest))?.bytes;
      if (bytes !== undefined) for (const { ztoc } of readSociIndex(bytes).layers) kept.add(ztoc.digest);
    }
    this.#d.state.indexes.deleteByDigest(digest);
    if (content !== undefined) {
      for (const { ztoc } of readSociIndex(content.bytes).layers)
        if (!kept.has(ztoc.digest)) {
          this.#d.state.ztocs.deleteByZtoc(ztoc.digest);
          await this.#d.store.delete(ztoc.digest);
        }
      await this.#d.store.delete(digest);
    }
  }

  async #layerInfo(
    { layer, ztoc, spanSize }: SociIndex['layers'][number],
    origin: Origin | undefined,
    options: ChooseImages,
  ): Promise<IndexLayerInfo> {
    const local = (await this.#d.content.local(ztoc.digest))?.bytes;
    const bytes =
      local ?? (origin === undefined ? undefined : await readSmallBlob(origin, ztoc, maxZtocBytes, options));
    const parsed = bytes === undefined ? undefined : readZtoc(bytes);
    return {
      layer,
      ztoc: ztoc.digest,
      size: ztoc.size,
      spanSize,
      spans: parsed?.spans.count,
      entries: parsed?.entries.length,
    };
  }

  async #find(
    target: string,
    options: ChooseImages,
  ): Promise<{ rows: readonly [IndexRow, ...IndexRow[]]; origin: Origin | undefined }> {
    const rows = this.#d.state.indexes.list();
    if (isDigest(target)) {
      const row = rows.find(({ digest, image }) => digest === target || image === target);
      if (row === undefined) throw new ImageError('ERR_IMAGE_INDEX', `no index ${target} is known on this node`);
      return { rows: [row], origin: undefined };
    }
    const { origin, images } = await this.#resolve(target, options);
    const [row, ...others] = rows.filter(({ image }) => images.some(({ descriptor }) => descriptor.digest === image));
    if (row === undefined) throw new ImageError('ERR_IMAGE_INDEX', `no index of ${target} is known on this node`);
    return { rows: [row, ...others], origin };
  }

  async #resolve(reference: string, options: ChooseImages): Promise<{ origin: Origin; images: ResolvedImage[] }> {
    const parsed = parseReference(reference);
    const origin = await this.#d.openOrigin(parsed).catch((error: unknown) => {
      throw imageErrorFrom(error, formatReference(parsed));
    });
    const deps = { images: this.#d.state.images, content: this.#d.content };
    const common = { pull: 'always', signal: options.signal } as const;
    if (options.allPlatforms === true)
      return { origin, images: await resolveAllPlatforms(deps, origin, parsed, common) };
    return { origin, images: [await resolveImage(deps, origin, parsed, { ...common, platform: options.platform })] };
  }
}

function reportHead({
  reference,
  descriptor,
  config,
}: ResolvedImage): Pick<IndexReport, 'reference' | 'image' | 'platform'> {
  const { os, architecture, variant } = config;
  const known = typeof os === 'string' && typeof architecture === 'string';
  const platform = known
    ? formatPlatform({ os, architecture, ...(typeof variant === 'string' ? { variant } : {}) })
    : undefined;
  return { reference, image: descriptor.digest, platform };
}
