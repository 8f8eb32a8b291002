// Making, keeping and publishing the seekable indexes of images: what the `index` commands do.
import { peelIndexType } from '../index/peel-names.ts';
import { sociIndexTypes } from '../index/soci-names.ts';
import type { Logger } from '../observe/log.ts';
import type { Digest } from '../oci/digest.ts';
import { formatPlatform } from '../oci/platform.ts';
import type { IndexFormat, IndexKind, IndexRow } from '../state/indexes.ts';
import type { State } from '../state/state.ts';
import { chooseImages } from './choose-images.ts';
import type { ChooseImages } from './choose-images.ts';
import type { ContentStore } from './content-store.ts';
import type { ContentFetcher } from './content.ts';
import { createIndex } from './create-index.ts';
import type { CreateIndexOptions } from './create-index.ts';
import { ImageError } from './errors.ts';
import { findIndexes } from './find-indexes.ts';
import { forgetIndex } from './forget-index.ts';
import type { IndexInfoReport, IndexReport } from './index-report.ts';
import type { OpenOrigin } from './origin.ts';
import { isWholeHere, pushIndex } from './push-index.ts';
import { imageErrorFrom } from './registry-errors.ts';
import type { ResolvedImage } from './resolve.ts';
import { showIndex } from './show-index.ts';

export interface IndexServiceDeps {
  readonly openOrigin: OpenOrigin;
  readonly state: State;
  readonly content: ContentFetcher;
  readonly store: ContentStore;
  readonly log: Logger;
}

/** An index of an image, as a registry has it. */
export interface RemoteIndex {
  readonly image: Digest;
  readonly index: Digest;
  readonly format: IndexFormat;
  /** Bytes of its manifest. */
  readonly size: number;
}

/** The order in which a mount prefers them. */
const kinds: readonly IndexKind[] = ['peel', 'soci'];

const referrerTypes: readonly { readonly artifactType: string; readonly format: IndexFormat }[] = [
  { artifactType: peelIndexType, format: 'peel' },
  { artifactType: sociIndexTypes.v1, format: 'soci-v1' },
];

export class IndexService {
  readonly #d: IndexServiceDeps;

  constructor(deps: IndexServiceDeps) {
    this.#d = deps;
  }

  /**
   * Downloads every layer that is large enough and indexes it; the indexes are kept on this node, and pushed when asked.
   * Errors: ERR_IMAGE_INDEX when no layer of any image gets into an index; ImageError, IndexError for a damaged layer.
   */
  async create(reference: string, options: CreateIndexOptions = {}): Promise<IndexReport[]> {
    const { origin, images } = await chooseImages(this.#d, reference, options);
    const reports: IndexReport[] = [];
    for (const image of images) {
      const created = await createIndex(this.#d, origin, image, options);
      const made = madeIn(created);
      const pushes = options.push === true ? made : [];
      for (const index of pushes) await pushIndex(this.#d.content, origin, index, options.signal);
      reports.push({ ...reportHead(image), ...created, pushed: pushes.length > 0 });
    }
    if (!reports.some((report) => madeIn(report).length > 0)) {
      const why = reports.flatMap(({ layers }) => layers.flatMap(({ peel, soci }) => [peel?.skipped, soci?.skipped]));
      const distinct = [...new Set(why.filter((reason) => reason !== undefined))];
      throw new ImageError('ERR_IMAGE_INDEX', `no layer of ${reference} gets an index: ${distinct.join('; ')}`);
    }
    return reports;
  }

  /** Publishes the indexes made here as referrers of their image. Errors: ERR_IMAGE_INDEX when there is none; ImageError. */
  async push(reference: string, options: ChooseImages = {}): Promise<Omit<RemoteIndex, 'size'>[]> {
    const { state, content } = this.#d;
    const { origin, images } = await chooseImages(this.#d, reference, options);
    const pushed: Omit<RemoteIndex, 'size'>[] = [];
    let found: Digest | undefined;
    for (const { descriptor } of images) {
      for (const kind of kinds) {
        const { digest: index, format } = state.indexes.get(descriptor.digest, kind) ?? {};
        if (index === undefined || format === undefined) continue;
        found ??= index;
        if (!(await isWholeHere(content, index))) continue;
        await pushIndex(content, origin, index, options.signal);
        pushed.push({ image: descriptor.digest, index, format });
      }
    }
    if (pushed.length > 0) return pushed;
    const why =
      found === undefined
        ? `this node has no index of ${reference}: peel index create makes one`
        : `this node made no index of ${reference} that it could push; it knows ${found} from elsewhere`;
    throw new ImageError('ERR_IMAGE_INDEX', why);
  }

  /** Indexes known on this node, newest first. */
  list(): IndexRow[] {
    return this.#d.state.indexes.list();
  }

  /** Indexes that the image's registry has for it. Errors: ImageError. */
  async listRemote(reference: string, options: ChooseImages = {}): Promise<RemoteIndex[]> {
    const { origin, images } = await chooseImages(this.#d, reference, options);
    const found: RemoteIndex[] = [];
    try {
      for (const { descriptor } of images) {
        for (const { artifactType, format } of referrerTypes) {
          const query = { artifactType, signal: options.signal };
          for await (const { digest, size } of origin.registry.referrers(origin.repository, descriptor.digest, query))
            found.push({ image: descriptor.digest, index: digest, format, size });
        }
      }
    } catch (error) {
      throw imageErrorFrom(error, reference);
    }
    return found;
  }

  /** An index by its digest, or those of an image. Errors: ERR_IMAGE_INDEX when none is known here; IndexError. */
  async show(target: string, options: ChooseImages = {}): Promise<IndexInfoReport[]> {
    const { rows, origin } = await findIndexes(this.#d, target, options);
    const reports: IndexInfoReport[] = [];
    for (const row of rows) reports.push(await showIndex(this.#d.content, row, origin, options));
    return reports;
  }

  /** Forgets indexes on this node, with what they keep; the registry's copies stay. Errors: ERR_IMAGE_INDEX. */
  async remove(target: string, options: ChooseImages = {}): Promise<Digest[]> {
    const { rows } = await findIndexes(this.#d, target, options);
    const digests = [...new Set(rows.map(({ digest }) => digest))];
    for (const digest of digests) await forgetIndex(this.#d, digest);
    return digests;
  }
}

function madeIn({ indexes }: Pick<IndexReport, 'indexes'>): Digest[] {
  return kinds.map((kind) => indexes[kind]).filter((digest) => digest !== undefined);
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
