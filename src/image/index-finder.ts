// Finding the seekable index of an image: named by the person, or a peel index, or one that the image itself names (SOCI v2), or one among the
// referrers of its manifest (SOCI v1).
import { isDigest } from '../oci/digest.ts';
import type { IndexTable } from '../state/indexes.ts';
import { LazyList } from '../util/lazy-list.ts';
import type { ContentFetcher } from './content.ts';
import { ImageError } from './errors.ts';
import type { FoundIndex } from './found-index.ts';
import type { IndexMode } from './image.ts';
import type { IndexChoice } from './index-choice.ts';
import { allFormats } from './index-formats.ts';
import type { IndexFormats } from './index-formats.ts';
import type { ListedReferrers } from './index-referrers.ts';
import { IndexSearch } from './index-search.ts';
import type { Origin } from './origin.ts';
import type { ResolvedImage } from './resolve.ts';

export interface Discovery {
  /** The first one that can be used. */
  readonly found: FoundIndex | undefined;
  /** Why there is none, as half a sentence. */
  readonly reason: string;
  /** Set when there is none and the registry could not be asked: there may be one. */
  readonly error?: unknown;
  /** Indexes that were there but could not be used, up to then. */
  readonly warnings: readonly string[];
  /**
   * The `position`-th, from 0, of the indexes that can be used, best first; undefined behind the last one. Looked for when it is first asked
   * for, and once for all layers. Errors: the signal's reason.
   */
  readonly candidate: (position: number) => Promise<FoundIndex | undefined>;
  /** What the registry has beside the image; undefined as long as it was not asked. */
  readonly listed: () => ListedReferrers | undefined;
}

export interface FindOptions {
  readonly mode: IndexMode;
  /** Default: all. */
  readonly formats?: IndexFormats | undefined;
  /** Among several that the registry has; default `newest`. */
  readonly choice?: IndexChoice | undefined;
  /** Told of each index that is there and cannot be used, once, also of those that `candidate` comes upon. */
  readonly onWarning: (warning: string) => void;
  /** Of the whole search, also of what `candidate` looks for later. */
  readonly signal: AbortSignal | undefined;
}

export class IndexFinder {
  readonly #indexes: IndexTable;
  readonly #content: ContentFetcher;

  constructor(indexes: IndexTable, content: ContentFetcher) {
    this.#indexes = indexes;
    this.#content = content;
  }

  /** Errors: ERR_IMAGE_INDEX when the mode asks for an index and there is no usable one, with the reason. */
  async find(origin: Origin, image: ResolvedImage, options: FindOptions): Promise<Discovery> {
    const { mode, formats = allFormats, choice = 'newest', onWarning, signal } = options;
    const search = new IndexSearch({
      indexes: this.#indexes,
      content: this.#content,
      origin,
      image,
      mode,
      formats,
      choice,
      onWarning,
      signal,
    });
    const list = new LazyList(search.run());
    const found = await list.at(0);
    const { reason, error } = search;
    const warnings = [...search.warnings];
    if (found === undefined && (mode === 'require' || isDigest(mode))) {
      const why = isDigest(mode) && warnings.length > 0 ? warnings.join('; ') : [reason, ...warnings].join('; ');
      throw new ImageError('ERR_IMAGE_INDEX', `${image.reference} has no usable index: ${why}`);
    }
    const more = { candidate: (position: number) => list.at(position), listed: () => search.listed };
    if (found !== undefined) return { found, reason: '', warnings, ...more };
    return { found, reason, warnings, ...more, ...(error === undefined ? {} : { error }) };
  }
}
