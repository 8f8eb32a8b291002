import { hostOf } from '../layer/blob-source.ts';
import type { BlobSource, SourceOptions } from '../layer/blob-source.ts';
import { isFinalFetchError } from '../layer/fetch-errors.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import { parseReference } from '../oci/reference.ts';
import { RegistryError } from '../registry/errors.ts';
import type { BlobReader } from '../registry/registry.ts';
import type { LayerSourceTable } from '../state/layer-sources.ts';
import { sourceOf } from './origin-blob.ts';
import type { OpenOrigin, Origin } from './origin.ts';

export interface KnownSourceDeps {
  readonly sources: LayerSourceTable;
  readonly openOrigin: OpenOrigin;
  /** Asked before the others, whether or not it is known. */
  readonly first?: Origin | undefined;
}

interface GoesWith {
  /** Whose images are asked; default the blob itself. */
  readonly layer?: Digest | undefined;
  /** Reference of a repository that had the blob, asked when the others have not got it. */
  readonly from?: string | undefined;
}

/** For so long what the database says is not asked for again, ms: every request asks. */
const keptMs = 1000;

interface Repository {
  readonly name: string;
  readonly open: () => Promise<Origin>;
}

/**
 * A layer's blob from the repositories of the images that are known to have it, used last first, and one that gave it before those that
 * did not: a layer of a public image stays readable when a private one that shares it refuses. Making one asks nobody.
 */
export class KnownSource implements BlobSource {
  readonly #deps: KnownSourceDeps;
  readonly #descriptor: Descriptor;
  readonly #layer: Digest;
  readonly #from: string | undefined;
  /** The repository that gave bytes last. */
  #preferred: string | undefined;
  #known: { readonly references: readonly string[]; readonly at: number } | undefined;

  constructor(deps: KnownSourceDeps, descriptor: Descriptor, { layer, from }: GoesWith = {}) {
    this.#deps = deps;
    this.#descriptor = descriptor;
    this.#layer = layer ?? descriptor.digest;
    this.#from = from;
  }

  get name(): string {
    const where = this.#preferred ?? this.#repositories()[0]?.name;
    return where === undefined ? `layer ${this.#descriptor.digest}` : `${where}@${this.#descriptor.digest}`;
  }

  get host(): string | undefined {
    const where = this.#preferred ?? this.#repositories()[0]?.name;
    return where === undefined ? undefined : hostOf(where);
  }

  /** Errors: as `Reader.getBlobRange`; of several refusals the one that may pass. */
  readRange(start: number, end: number, options?: SourceOptions): Promise<BlobReader> {
    return this.#first((source) => source.readRange(start, end, options), options?.signal);
  }

  readAll(options?: SourceOptions): Promise<BlobReader> {
    return this.#first((source) => source.readAll(options), options?.signal);
  }

  blob(descriptor: Descriptor, from?: string): BlobSource {
    return new KnownSource(this.#deps, descriptor, { layer: this.#layer, from });
  }

  async #first(
    read: (source: BlobSource) => Promise<BlobReader>,
    signal: AbortSignal | undefined,
  ): Promise<BlobReader> {
    const failures: unknown[] = [];
    for (const { name, open } of this.#repositories()) {
      try {
        const reader = await read(sourceOf(await open(), this.#descriptor));
        this.#preferred = name;
        // What breaks off half way is asked for again, elsewhere if there is an elsewhere.
        reader.body.once('error', () => {
          if (this.#preferred === name) this.#preferred = undefined;
        });
        return reader;
      } catch (error) {
        signal?.throwIfAborted();
        if (this.#preferred === name) this.#preferred = undefined;
        failures.push(error);
      }
    }
    const passing = failures.find((error) => !isFinalFetchError(error, 1));
    // Another image may bring one that can be asked.
    this.#known = undefined;
    throw (
      passing ??
      failures[0] ??
      new RegistryError(
        'BLOB_UNKNOWN',
        `no image is known any more that has layer ${this.#layer}: pull one that has it`,
      )
    );
  }

  /** Each once, in the order in which they are to be asked. */
  #repositories(): Repository[] {
    const { first, openOrigin } = this.#deps;
    const found = new Map<string, Repository['open']>();
    if (first !== undefined) found.set(first.name, async () => first);
    for (const reference of [...this.#references(), ...(this.#from === undefined ? [] : [this.#from])]) {
      const name = repositoryOf(reference);
      if (!found.has(name)) found.set(name, () => openOrigin(parseReference(reference)));
    }
    return [...found]
      .map(([name, open]) => ({ name, open }))
      .toSorted((a, b) => Number(b.name === this.#preferred) - Number(a.name === this.#preferred));
  }

  #references(): readonly string[] {
    const now = performance.now();
    if (this.#known !== undefined && now - this.#known.at <= keptMs) return this.#known.references;
    const references = this.#deps.sources.of(this.#layer);
    this.#known = references.length > 0 ? { references, at: now } : undefined;
    return references;
  }
}

function repositoryOf(reference: string): string {
  const parsed = parseReference(reference);
  return parsed.kind === 'registry' ? `${parsed.host}/${parsed.repository}` : reference;
}

/** A layer's blob from where its image is; what goes with it also from wherever else it is known to be. */
export function imageSource(
  { sources, openOrigin }: Pick<KnownSourceDeps, 'sources' | 'openOrigin'>,
  origin: Origin,
  descriptor: Descriptor,
): BlobSource {
  const deps = { sources, openOrigin, first: origin };
  return {
    ...sourceOf(origin, descriptor),
    blob: (other, from) => new KnownSource(deps, other, { layer: descriptor.digest, from }),
  };
}
