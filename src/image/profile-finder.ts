// Finding what starts of an image touch: recorded on this node, or pushed beside the image by somebody else.
import { readProfileManifest, readProfileSpans } from '../index/peel-profile-reader.ts';
import type { ProfileLayer } from '../index/peel-profile.ts';
import { maxProfileBytes } from '../index/profile-names.ts';
import { errorMessage } from '../layer/errors.ts';
import type { Digest } from '../oci/digest.ts';
import { profileOrder } from '../state/profile-merge.ts';
import type { CountedLayer, ProfileTable } from '../state/profiles.ts';
import type { ContentFetcher } from './content.ts';
import { readSmallBlob } from './content.ts';
import { datedCandidates } from './dated-candidates.ts';
import { ImageError } from './errors.ts';
import { orderCandidates, placeText } from './index-choice.ts';
import type { IndexCandidate } from './index-choice.ts';
import { listKind } from './index-referrers.ts';
import type { ListedReferrers } from './index-referrers.ts';
import type { Origin } from './origin.ts';
import { prefetchProfile } from './prefetch-profile.ts';
import { isUnknown } from './registry-errors.ts';

export interface ProfileFinderDeps {
  readonly profiles: ProfileTable;
  readonly content: ContentFetcher;
}

export interface ProfileSearch {
  readonly origin: Origin;
  /** Manifest digest. */
  readonly image: Digest;
  /** How the layers were opened; those without spans of a published index are left out. */
  readonly layers: readonly CountedLayer[];
  /** What the registry listed when it was asked for indexes; undefined: it was not asked, and is not for a profile alone. */
  readonly listed: ListedReferrers | undefined;
  /** Told once of each profile that is there and cannot be used. */
  readonly onWarning: (warning: string) => void;
  readonly signal?: AbortSignal | undefined;
}

export interface FoundProfile {
  /** Where it is from, for people. */
  readonly source: string;
  /** By layer, the spans to fetch, in that order. */
  readonly orders: ReadonlyMap<Digest, readonly number[]>;
}

/** How many profiles of one image are tried. */
const maxTried = 4;

export class ProfileFinder {
  readonly #d: ProfileFinderDeps;

  constructor(deps: ProfileFinderDeps) {
    this.#d = deps;
  }

  /**
   * The profile of the image for its layers as they are open, undefined when there is none. One that the registry has is kept on this node.
   * Errors: those of a registry that cannot be asked; the signal's reason.
   */
  async find(search: ProfileSearch): Promise<FoundProfile | undefined> {
    if (search.layers.length === 0) return undefined;
    const known = this.#known(search);
    if (known !== undefined) return known;
    for await (const { digest, source } of this.#candidates(search)) {
      const layers = await this.#use(search, digest, source);
      if (layers !== undefined) return await this.#keep(search, layers, source);
    }
    const prefetch = await prefetchProfile(this.#d.content, search);
    return prefetch && (await this.#keep(search, prefetch.layers, prefetch.source));
  }

  #known({ image, layers }: ProfileSearch): FoundProfile | undefined {
    const rows = this.#d.profiles.get(image);
    const matching = rows.filter((row) => layers.some((layer) => isSameCount(layer, row)));
    const [newest] = matching;
    if (newest === undefined) return undefined;
    return { source: newest.source, orders: new Map(matching.map((row) => [row.layer, profileOrder(row)])) };
  }

  /** Newest first, then by digest. */
  async *#candidates(search: ProfileSearch): AsyncGenerator<{ readonly digest: Digest; readonly source: string }> {
    const { origin, listed, image, signal } = search;
    if (listed === undefined) return;
    const found = listed.profile ?? (await listKind(origin, image, 'profile', { signal }));
    const dated: readonly IndexCandidate[] =
      found.length < 2 ? found : await datedCandidates(this.#d.content, origin, found, { signal });
    for (const [position, candidate] of orderCandidates(dated, 'newest').slice(0, maxTried).entries()) {
      const place = placeText(candidate, { position, total: found.length }, 'newest');
      const where = `referrer in ${origin.name}`;
      yield { digest: candidate.digest, source: place === undefined ? where : `${where}, ${place}` };
    }
  }

  /** Undefined when it cannot be used. Errors: a registry that cannot be asked; the signal's reason. */
  async #use(search: ProfileSearch, digest: Digest, source: string): Promise<readonly ProfileLayer[] | undefined> {
    const { signal, onWarning, layers } = search;
    const name = `the profile ${digest} (${source})`;
    let read: readonly ProfileLayer[];
    try {
      read = await this.#read(search, digest);
    } catch (error) {
      signal?.throwIfAborted();
      onWarning(`${name} is ignored: ${errorMessage(error)}`);
      return undefined;
    }
    const matching = read.filter((each) => layers.some((layer) => isSameCount(layer, each)));
    const others = layers.flatMap((layer) => {
      const of = read.filter((each) => each.layer === layer.layer);
      return of.length === 0 || of.some((each) => isSameCount(layer, each)) ? [] : [otherCount(layer, of)];
    });
    const [other] = others;
    if (other !== undefined)
      onWarning(matching.length === 0 ? `${name} is ignored: ${other}` : `${name} is used only in part: ${other}`);
    return matching.length === 0 ? undefined : matching;
  }

  async #read({ origin, image, signal }: ProfileSearch, digest: Digest): Promise<ProfileLayer[]> {
    try {
      const manifest = readProfileManifest((await this.#d.content.manifest(origin, digest, { signal })).bytes);
      if (manifest.subject.digest !== image)
        throw new ImageError('ERR_IMAGE_INDEX', `it is for another image: its subject is ${manifest.subject.digest}`);
      return readProfileSpans(await this.#spans(origin, manifest.spans, signal));
    } catch (error) {
      if (!isUnknown(error)) throw error;
      throw new ImageError('ERR_IMAGE_CONTENT', `it is not in ${origin.name} (${errorMessage(error)})`);
    }
  }

  async #spans(origin: Origin, spans: Parameters<typeof readSmallBlob>[1], signal: AbortSignal | undefined) {
    const local = await this.#d.content.local(spans.digest);
    return local?.bytes ?? (await readSmallBlob(origin, spans, maxProfileBytes, { signal }));
  }

  async #keep(
    { image, onWarning }: ProfileSearch,
    layers: readonly ProfileLayer[],
    source: string,
  ): Promise<FoundProfile> {
    try {
      await this.#d.profiles.putSoon(image, layers, source);
    } catch (error) {
      // It is as good when it is found again the next time.
      onWarning(`the profile of ${image} is not kept: ${errorMessage(error)}`);
    }
    return { source, orders: new Map(layers.map(({ layer, spans }) => [layer, spans])) };
  }
}

function isSameCount(a: CountedLayer, b: CountedLayer): boolean {
  return a.layer === b.layer && a.index === b.index && a.spanCount === b.spanCount;
}

function otherCount({ layer, index, spanCount }: CountedLayer, read: readonly ProfileLayer[]): string {
  const same = read.find((each) => each.index === index);
  if (same !== undefined)
    return `it counts ${same.spanCount} spans of layer ${layer}, where index ${index} has ${spanCount}`;
  return `it counts the spans of index ${read[0]?.index ?? 'none'}, but layer ${layer} is read by ${index}`;
}
