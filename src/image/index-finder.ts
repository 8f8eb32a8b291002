// Finding the seekable index of an image: named by the person, by the image itself (SOCI v2), known on the node, or among the
// referrers of its manifest (SOCI v1).
import type { SociIndex } from '../index/soci-index.ts';
import { readSociIndex } from '../index/soci-index.ts';
import { sociAnnotations, sociIndexTypes } from '../index/soci-names.ts';
import { errorMessage } from '../layer/errors.ts';
import { isDigest } from '../oci/digest.ts';
import type { Digest } from '../oci/digest.ts';
import { parseManifestOrIndex } from '../oci/manifest.ts';
import type { IndexTable } from '../state/indexes.ts';
import type { ContentFetcher } from './content.ts';
import { ImageError } from './errors.ts';
import type { IndexMode } from './image.ts';
import { createdAnnotation, orderCandidates } from './index-choice.ts';
import type { IndexCandidate, IndexChoice } from './index-choice.ts';
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
  /** Set when the registry could not be asked: there may be one. */
  readonly error?: unknown;
  /** Indexes that were there but could not be used, said once. */
  readonly warnings: readonly string[];
}

/** Which formats may be looked for; one that is named by its digest is used whatever these say. */
export interface IndexFormats {
  readonly peel: boolean;
  readonly soci_v1: boolean;
  readonly soci_v2: boolean;
}

export interface FindOptions {
  readonly mode: IndexMode;
  /** Default: all. */
  readonly formats?: IndexFormats | undefined;
  /** Among several that the registry has; default `newest`. */
  readonly choice?: IndexChoice | undefined;
  readonly signal: AbortSignal | undefined;
}

/** How many are tried, and how many are looked at for that. */
const maxCandidates = 8;
const maxListed = 64;
const allFormats: IndexFormats = { peel: true, soci_v1: true, soci_v2: true };

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

  async #discover(origin: Origin, image: ResolvedImage, options: FindOptions): Promise<Discovery> {
    const { mode, signal, formats = allFormats } = options;
    if (mode === 'never') return { found: undefined, reason: 'indexes are switched off (--index never)', warnings: [] };
    const warnings: string[] = [];
    if (isDigest(mode)) {
      const found = await this.#use(origin, image, { digest: mode, source: 'named by its digest' }, warnings, signal);
      return { found, reason: `${mode} cannot be used`, warnings };
    }
    for (const candidate of this.#bound(image, formats)) {
      const found = await this.#use(origin, image, candidate, warnings, signal);
      if (found !== undefined) return { found, reason: '', warnings };
    }
    if (!formats.soci_v1) return { found: undefined, reason: withoutReferrers(formats, warnings), warnings };
    return await this.#askReferrers(origin, image, warnings, options);
  }

  /** What the image says itself comes first, then what this node made or found before. */
  *#bound(image: ResolvedImage, formats: IndexFormats): Generator<Candidate> {
    const annotated = image.manifest.annotations[sociAnnotations.indexDigest];
    if (formats.soci_v2 && annotated !== undefined && isDigest(annotated))
      yield { digest: annotated, source: 'annotation of the image manifest' };
    const known = this.#indexes.get(image.descriptor.digest, 'soci');
    const isOff = known?.format === 'soci-v2' ? !formats.soci_v2 : !formats.soci_v1;
    if (known?.digest !== undefined && known.digest !== annotated && !isOff)
      yield { digest: known.digest, source: known.source };
  }

  async #askReferrers(
    origin: Origin,
    image: ResolvedImage,
    warnings: string[],
    { signal, choice = 'newest' }: FindOptions,
  ): Promise<Discovery> {
    let asked = 0;
    try {
      const listed = await this.#listed(origin, image, signal);
      const dated = choice === 'registry' || listed.length < 2 ? listed : await this.#dated(origin, listed, signal);
      for (const { digest } of orderCandidates(dated, choice).slice(0, maxCandidates)) {
        asked += 1;
        const candidate = { digest, source: `referrer in ${origin.name}` };
        const found = await this.#use(origin, image, candidate, warnings, signal);
        if (found !== undefined) return { found, reason: '', warnings };
      }
    } catch (error) {
      signal?.throwIfAborted();
      if (!isUnknown(error))
        return {
          found: undefined,
          reason: `no index: ${origin.name} could not be asked for referrers: ${errorMessage(error)}`,
          error,
          warnings,
        };
    }
    // Not remembered: layers are still to be fetched, and an index pushed meanwhile, or to another registry, saves most of that.
    const why =
      asked > 0 ? `none of the ${asked} found in ${origin.name} can be used` : `${origin.name} has none for this image`;
    return { found: undefined, reason: `no index: ${why}`, warnings };
  }

  async #listed(origin: Origin, image: ResolvedImage, signal: AbortSignal | undefined): Promise<IndexCandidate[]> {
    const { registry, repository } = origin;
    const artifactType = sociIndexTypes.v1;
    const listed = new Map<Digest, IndexCandidate>();
    for await (const referrer of registry.referrers(repository, image.descriptor.digest, { artifactType, signal })) {
      if (referrer.artifactType !== undefined && referrer.artifactType !== artifactType) continue;
      listed.set(referrer.digest, { digest: referrer.digest, created: referrer.annotations?.[createdAnnotation] });
      if (listed.size === maxListed) break;
    }
    return [...listed.values()];
  }

  /** Some registries list no annotations: the manifests have them. One that cannot be had is found out about when it is tried. */
  async #dated(
    origin: Origin,
    listed: readonly IndexCandidate[],
    signal: AbortSignal | undefined,
  ): Promise<IndexCandidate[]> {
    const silent = listed.filter(({ created }) => created === undefined).slice(0, maxCandidates);
    const times = new Map(
      await Promise.all(
        silent.map(async ({ digest }) => {
          const content = await this.#content.manifest(origin, digest, { signal }).catch(() => undefined);
          return [digest, content && createdOf(content.bytes)] as const;
        }),
      ),
    );
    signal?.throwIfAborted();
    return listed.map(({ digest, created }) => ({ digest, created: created ?? times.get(digest) }));
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
      this.#indexes.put({ image: image.descriptor.digest, kind: 'soci', digest, format, source });
      return { digest, format, source, index };
    } catch (error) {
      signal?.throwIfAborted();
      const why = isUnknown(error) ? `it is not in ${origin.name} (${errorMessage(error)})` : errorMessage(error);
      warnings.push(`the index ${digest} (${source}) is ignored: ${why}`);
      return undefined;
    }
  }
}

function createdOf(bytes: Uint8Array): string | undefined {
  try {
    return parseManifestOrIndex(bytes).annotations[createdAnnotation];
  } catch {
    return undefined;
  }
}

function withoutReferrers(formats: IndexFormats, warnings: readonly string[]): string {
  if (!formats.soci_v2) return 'no index: every index format is switched off (index.formats)';
  return warnings.length > 0
    ? 'no index: the one its manifest names cannot be used, and SOCI v1 is switched off (index.formats)'
    : 'no index: its manifest names none, and SOCI v1 is switched off (index.formats)';
}
