// index.json of the store on disk: a list of all its tags for other tools. It is made from the tags and never asked about them.
import type { Descriptor } from '../../oci/descriptor.ts';
import type { JsonObject } from '../../oci/json.ts';
import { isRepository, isTag } from '../../oci/reference.ts';
import { OnceMap } from '../../util/once-map.ts';
import { hasCode } from '../errors.ts';
import type { CallOptions } from '../interface.ts';
import { entryName, refName } from '../layout/layout-index.ts';
import type { LayoutIndex } from '../layout/layout-index.ts';
import type { ManifestStore } from './manifest-store.ts';
import type { StorePaths } from './paths.ts';
import { repositoriesOf } from './repository-folders.ts';

/** The manifest of each name `<repository>:<tag>`; undefined for a tag that is gone. */
type TagEntries = Map<string, Descriptor | undefined>;

export class TagIndex {
  readonly #index: LayoutIndex;
  readonly #paths: StorePaths;
  readonly #manifests: ManifestStore;
  readonly #changed = new Set<string>();
  readonly #rounds = new OnceMap<number, void>();
  #round = 0;
  /** What another process left undone is only seen by looking at all tags. */
  #complete = false;

  constructor(index: LayoutIndex, paths: StorePaths, manifests: ManifestStore) {
    this.#index = index;
    this.#paths = paths;
    this.#manifests = manifests;
  }

  /** Returns when index.json durably says what these tags are now. Those who come together share one rewrite. */
  async update(repository: string, tags: readonly string[], options: CallOptions = {}): Promise<void> {
    if (tags.length === 0) return;
    for (const tag of tags) this.#changed.add(`${repository}:${tag}`);
    await this.#nextRound(options);
  }

  /** The same for all tags there are: heals what a process that was killed left. */
  async reconcile(options: CallOptions = {}): Promise<void> {
    this.#complete = false;
    await this.#nextRound(options);
  }

  async #nextRound(options: CallOptions): Promise<void> {
    await this.#rounds.run(this.#round, (signal) => this.#rewrite(signal), options);
  }

  async #rewrite(signal: AbortSignal): Promise<void> {
    try {
      await this.#index.change(async (entries) => await this.#next(entries), { signal });
    } catch (error) {
      // What was not written is not known in detail; the next round looks at everything.
      this.#complete = false;
      throw error;
    }
  }

  async #next(entries: readonly JsonObject[]): Promise<readonly JsonObject[]> {
    // Whoever comes from here on may have changed a tag that is read already, and waits for the next round.
    this.#round += 1;
    const names = [...this.#changed];
    this.#changed.clear();
    // A list without entries may be one that somebody removed.
    const everything = !this.#complete || entries.length === 0;
    this.#complete = true;
    return merged(entries, everything ? await this.#all() : await this.#entriesOf(names), everything);
  }

  async #all(): Promise<TagEntries> {
    const all: TagEntries = new Map();
    for (const repository of await repositoriesOf(this.#paths)) {
      const tags = (await this.#manifests.tags(repository)) ?? [];
      for (const [name, entry] of await this.#entriesOf(tags.map((tag) => `${repository}:${tag}`)))
        all.set(name, entry);
    }
    return all;
  }

  async #entriesOf(names: readonly string[]): Promise<TagEntries> {
    const entries: TagEntries = new Map();
    for (const name of names) {
      const [repository, tag] = partsOf(name);
      // A damaged tag is told to whoever asks for it; it does not keep the others out of the list.
      const digest = await this.#manifests.tag(repository, tag).catch(ignoreDamage);
      entries.set(name, digest === undefined ? undefined : await this.#manifests.resolve(repository, digest));
    }
    return entries;
  }
}

/** Whether an entry of index.json is one that this store makes, by its name. */
export function isTagEntry(entry: JsonObject): boolean {
  const name = entryName(entry);
  if (name === undefined) return false;
  const [repository, tag] = partsOf(name);
  return isRepository(repository) && isTag(tag);
}

/** `entries` itself when nothing is to be changed. */
function merged(entries: readonly JsonObject[], tags: TagEntries, all: boolean): readonly JsonObject[] {
  const left = new Map(tags);
  let same = true;
  const result: JsonObject[] = [];
  for (const entry of entries) {
    const name = entryName(entry) ?? '';
    if (!tags.has(name) && !(all && isTagEntry(entry))) {
      result.push(entry);
      continue;
    }
    const now = left.get(name);
    left.delete(name);
    same &&= now !== undefined && isEntryOf(entry, now);
    if (now !== undefined) result.push(isEntryOf(entry, now) ? entry : toEntry(name, now));
  }
  for (const [name, now] of left) if (now !== undefined) result.push(toEntry(name, now));
  return same && result.length === entries.length ? entries : result;
}

function isEntryOf(entry: JsonObject, { mediaType, digest, size }: Descriptor): boolean {
  return entry['mediaType'] === mediaType && entry['digest'] === digest && entry['size'] === size;
}

function toEntry(name: string, descriptor: Descriptor): JsonObject {
  return { ...descriptor, annotations: { [refName]: name } };
}

function ignoreDamage(error: unknown): undefined {
  if (hasCode(error, 'UNKNOWN')) return undefined;
  throw error;
}

function partsOf(name: string): [string, string] {
  const colon = name.lastIndexOf(':');
  return [name.slice(0, Math.max(colon, 0)), name.slice(colon + 1)];
}
