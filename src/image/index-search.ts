// One image's indexes, best first: those it is known to have and the registry's, read and checked when somebody gets to them.
import { sociAnnotations } from '../index/soci-names.ts';
import { errorMessage } from '../layer/errors.ts';
import { isDigest } from '../oci/digest.ts';
import type { Digest } from '../oci/digest.ts';
import type { IndexKind, IndexTable } from '../state/indexes.ts';
import { madeHere } from './assemble-index.ts';
import type { ContentFetcher } from './content.ts';
import { datedCandidates } from './dated-candidates.ts';
import { indexKind, readIndexOf } from './found-index.ts';
import type { FoundIndex } from './found-index.ts';
import type { IndexMode } from './image.ts';
import { orderCandidates, placeText } from './index-choice.ts';
import type { IndexChoice } from './index-choice.ts';
import { switchedOff } from './index-formats.ts';
import type { IndexFormats } from './index-formats.ts';
import { listIndexes } from './index-referrers.ts';
import type { ListedReferrers } from './index-referrers.ts';
import type { Origin } from './origin.ts';
import { isUnknown } from './registry-errors.ts';
import type { ResolvedImage } from './resolve.ts';

export interface IndexSearchInit {
  readonly indexes: IndexTable;
  readonly content: ContentFetcher;
  readonly origin: Origin;
  readonly image: ResolvedImage;
  readonly mode: IndexMode;
  readonly formats: IndexFormats;
  readonly choice: IndexChoice;
  /** Told of each index that is there and cannot be used. */
  readonly onWarning: (warning: string) => void;
  readonly signal: AbortSignal | undefined;
}

interface Named {
  readonly digest: Digest;
  readonly source: string;
  /** Undefined: as it says itself. */
  readonly kind: IndexKind | undefined;
}

/** Of a kind: how many are tried. */
const maxTried = 8;

export class IndexSearch {
  readonly #o: IndexSearchInit;
  readonly #tried = new Set<Digest>();
  readonly warnings: string[] = [];
  #listed: ListedReferrers | undefined;
  #asked = 0;
  /** Set when the registry could not be asked: there may be one that was not found. */
  error: unknown;

  constructor(init: IndexSearchInit) {
    this.#o = init;
  }

  /** What the registry has beside the image; undefined while it was not asked. */
  get listed(): ListedReferrers | undefined {
    return this.#listed;
  }

  /** Why there is none or none further, as half a sentence. */
  get reason(): string {
    const { mode, formats, origin } = this.#o;
    if (mode === 'never') return 'indexes are switched off (--index never)';
    if (isDigest(mode)) return `${mode} cannot be used`;
    if (this.error !== undefined)
      return `no index: ${origin.name} could not be asked for referrers: ${errorMessage(this.error)}`;
    const off = switchedOff(formats);
    if (off.length === 3) return 'no index: every index format is switched off (index.formats)';
    const without =
      off.length === 0 ? '' : `; ${off.join(' and ')} ${off.length === 1 ? 'is' : 'are'} switched off (index.formats)`;
    return `no index: ${this.#findings()}${without}`;
  }

  /** Errors: the signal's reason. */
  async *run(): AsyncGenerator<FoundIndex, void> {
    const { mode, formats, image } = this.#o;
    if (mode === 'never') return;
    if (isDigest(mode)) {
      yield* this.#use({ digest: mode, source: 'named by its digest', kind: undefined });
      return;
    }
    if (formats.peel) {
      yield* this.#known('peel');
      yield* this.#referrers('peel');
    }
    const annotated = image.manifest.annotations[sociAnnotations.indexDigest];
    if (formats.soci_v2 && annotated !== undefined && isDigest(annotated))
      yield* this.#use({ digest: annotated, source: 'annotation of the image manifest', kind: 'soci' });
    yield* this.#known('soci');
    if (formats.soci_v1) yield* this.#referrers('soci');
  }

  #findings(): string {
    const { formats, origin } = this.#o;
    if (this.#asked > 0) return `none of the ${this.#asked} found in ${origin.name} can be used`;
    if (formats.peel || formats.soci_v1) return `${origin.name} has none for this image`;
    return this.warnings.length > 0 ? 'the one its manifest names cannot be used' : 'its manifest names none';
  }

  /** What this node made or found before. */
  async *#known(kind: IndexKind): AsyncGenerator<FoundIndex, void> {
    const { indexes, image, formats } = this.#o;
    const known = indexes.get(image.descriptor.digest, kind);
    if (known?.digest === undefined) return;
    const isOff = kind === 'soci' && (known.format === 'soci-v2' ? !formats.soci_v2 : !formats.soci_v1);
    if (!isOff) yield* this.#use({ digest: known.digest, source: known.source, kind });
  }

  async *#referrers(kind: IndexKind): AsyncGenerator<FoundIndex, void> {
    const { choice, content, origin, signal } = this.#o;
    const listed = (await this.#list())[kind];
    const dated =
      choice === 'registry' || listed.length < 2 ? listed : await datedCandidates(content, origin, listed, { signal });
    for (const [position, candidate] of orderCandidates(dated, choice).slice(0, maxTried).entries()) {
      const place = placeText(candidate, { position, total: listed.length }, choice);
      const where = `referrer in ${origin.name}`;
      if (!this.#tried.has(candidate.digest)) this.#asked += 1;
      yield* this.#use({ digest: candidate.digest, source: place === undefined ? where : `${where}, ${place}`, kind });
    }
  }

  /** All kinds at once. What was not there is not remembered: one that is pushed meanwhile saves most of the layers. */
  async #list(): Promise<ListedReferrers> {
    if (this.#listed !== undefined) return this.#listed;
    const { origin, image, formats, signal } = this.#o;
    const kinds: IndexKind[] = [
      ...(formats.peel ? ['peel' as const] : []),
      ...(formats.soci_v1 ? ['soci' as const] : []),
    ];
    try {
      this.#listed = await listIndexes(origin, image.descriptor.digest, kinds, { signal });
    } catch (error) {
      signal?.throwIfAborted();
      if (!isUnknown(error)) this.error = error;
      this.#listed = { peel: [], soci: [], profile: [] };
    }
    return this.#listed;
  }

  async *#use({ digest, source, kind }: Named): AsyncGenerator<FoundIndex, void> {
    if (this.#tried.has(digest)) return;
    this.#tried.add(digest);
    const { content, indexes, origin, image, signal, onWarning } = this.#o;
    let found: FoundIndex;
    try {
      const { bytes } = await content.manifest(origin, digest, { signal });
      found = { digest, source, ...readIndexOf(image, bytes, kind) };
      const { format } = found;
      const of = indexKind(format);
      // One that was made here can still be pushed.
      if (indexes.get(image.descriptor.digest, of)?.source !== madeHere)
        indexes.put({ image: image.descriptor.digest, kind: of, digest, format, source });
    } catch (error) {
      signal?.throwIfAborted();
      const why = isUnknown(error) ? `it is not in ${origin.name} (${errorMessage(error)})` : errorMessage(error);
      const warning = `the index ${digest} (${source}) is ignored: ${why}`;
      this.warnings.push(warning);
      onWarning(warning);
      return;
    }
    yield found;
  }
}
