// Finding the seekable index of an image: named by the person, by the image itself (SOCI v2), known on the node, or among the
// referrers of its manifest (SOCI v1).
import type { SociIndex } from '../index/soci-index.ts';
import { readSociIndex } from '../index/soci-index.ts';
import { sociAnnotations, sociIndexTypes } from '../index/soci-names.ts';
import { errorMessage } from '../layer/errors.ts';
import { isDigest } from '../oci/digest.ts';
import type { Digest } from '../oci/digest.ts';
import type { IndexTable } from '../state/indexes.ts';
import type { ContentFetcher } from './content.ts';
import { ImageError } from './errors.ts';
import type { IndexMode } from './image.ts';
import type { Origin } from './origin.ts';
import { isUnknown } from './registry-errors.ts';
import type { ResolvedImage } from './resolve.ts';

export interface FoundIndex {
  readonly digest: Digest;
  readonly format: 'soci-v1' | 'soci-v2';
  /** Where it came from, for people. */
  readonly source: string;
  readonly index: SociIndex;
}

export interface Discovery {
  readonly found: FoundIndex | undefined;
  /** Why there is none, as half a sentence. */
  readonly reason: string;
  /** Indexes that were there but could not be used, said once. */
  readonly warnings: readonly string[];
}

export interface FindOptions {
  readonly mode: IndexMode;
  readonly signal: AbortSignal | undefined;
}

const maxCandidates = 8;

type Candidate = { readonly digest: Digest; readonly source: string };

export class IndexFinder {
  readonly #indexes: IndexTable;
  readonly #content: ContentFetcher;

  constructor(indexes: IndexTable, content: ContentFetcher) {
    this.#indexes = indexes;
    this.#content = content;
  }

  /** Errors: ERR_IMAGE_INDEX when the mode asks for an index and there is no usable one, with the reason. */
  async find(origin: Origin, image: ResolvedImage, options: FindOptions): Promise<Discovery> {
    const discovery = await this.#discover(origin, image, options);
    const { mode } = options;
    if (discovery.found === undefined && (mode === 'require' || isDigest(mode))) {
      const why = [discovery.reason, ...discovery.warnings].join('; ');
      throw new ImageError('ERR_IMAGE_INDEX', `${image.reference} has no usable index: ${why}`);
    }
    return discovery;
  }

  async #discover(origin: Origin, image: ResolvedImage, { mode, signal }: FindOptions): Promise<Discovery> {
    if (mode === 'never') return { found: undefined, reason: 'indexes are switched off (--index never)', warnings: [] };
    const warnings: string[] = [];
    if (isDigest(mode)) {
      const found = await this.#use(origin, image, { digest: mode, source: 'named by its digest' }, warnings, signal);
      return { found, reason: `${mode} cannot be used`, warnings };
    }
    for (const candidate of this.#bound(image)) {
      const found = await this.#use(origin, image, candidate, warnings, signal);
      if (found !== undefined) return { found, reason: '', warnings };
    }
    return await this.#askReferrers(origin, image, warnings, signal);
  }

  /** What the image says itself comes first, then what this node made or found before. */
  *#bound(image: ResolvedImage): Generator<Candidate> {
    const annotated = image.manifest.annotations[sociAnnotations.indexDigest];
    if (annotated !== undefined && isDigest(annotated))
      yield { digest: annotated, source: 'annotation of the image manifest' };
    const known = this.#indexes.get(image.descriptor.digest);
    if (known?.digest !== undefined && known.digest !== annotated) yield { digest: known.digest, source: known.source };
  }

  async #askReferrers(
    origin: Origin,
    image: ResolvedImage,
    warnings: string[],
    signal: AbortSignal | undefined,
  ): Promise<Discovery> {
    const { digest } = image.descriptor;
    let asked = 0;
    try {
      for await (const referrer of origin.registry.referrers(origin.repository, digest, {
        artifactType: sociIndexTypes.v1,
        signal,
      })) {
        if (referrer.artifactType !== undefined && referrer.artifactType !== sociIndexTypes.v1) continue;
        asked += 1;
        if (asked > maxCandidates) break;
        const found = await this.#use(
          origin,
          image,
          { digest: referrer.digest, source: `referrer in ${origin.name}` },
          warnings,
          signal,
        );
        if (found !== undefined) return { found, reason: '', warnings };
      }
    } catch (error) {
      signal?.throwIfAborted();
      if (!isUnknown(error))
        return {
          found: undefined,
          reason: `no index: ${origin.name} could not be asked for referrers: ${errorMessage(error)}`,
          warnings,
        };
    }
    // Not remembered: layers are still to be fetched, and an index pushed meanwhile, or to another registry, saves most of that.
    const why =
      asked > 0 ? `none of the ${asked} found in ${origin.name} can be used` : `${origin.name} has none for this image`;
    return { found: undefined, reason: `no index: ${why}`, warnings };
  }

  async #use(
    origin: Origin,
    image: ResolvedImage,
    candidate: Candidate,
    warnings: string[],
    signal: AbortSignal | undefined,
  ): Promise<FoundIndex | undefined> {
    const { digest, source } = candidate;
    try {
      const { bytes } = await this.#content.manifest(origin, digest, { signal });
      const index = readSociIndex(bytes);
      const layers = new Set<Digest>(image.manifest.layers.map((layer) => layer.digest));
      if (index.layers.length > 0 && !index.layers.some(({ layer }) => layers.has(layer))) {
        throw new ImageError(
          'ERR_IMAGE_INDEX',
          `it is for another image: none of its ${index.layers.length} layers is in this one`,
        );
      }
      const format = index.version === 'v1' ? 'soci-v1' : 'soci-v2';
      this.#indexes.put({ image: image.descriptor.digest, digest, format, source });
      return { digest, format, source, index };
    } catch (error) {
      signal?.throwIfAborted();
      const why = isUnknown(error) ? `it is not in ${origin.name} (${errorMessage(error)})` : errorMessage(error);
      warnings.push(`the index ${digest} (${source}) is ignored: ${why}`);
      return undefined;
    }
  }
}
