// index.json of an OCI image layout (image spec, image-layout.md): read with every check, changed without losing what others wrote.
import type { Descriptor } from '../../oci/descriptor.ts';
import { parseDescriptor } from '../../oci/descriptor-json.ts';
import { OciError } from '../../oci/errors.ts';
import { asObject, parseJsonObject } from '../../oci/json.ts';
import type { JsonObject } from '../../oci/json.ts';
import { maxManifestBytes, parseImageIndex } from '../../oci/manifest.ts';
import { mediaTypes } from '../../oci/media-type.ts';
import { Semaphore } from '../../util/semaphore.ts';
import { RegistryError } from '../errors.ts';
import type { CallOptions } from '../interface.ts';

export const refName = 'org.opencontainers.image.ref.name';

/** The most bytes of an index.json that is changed. */
const maxIndexBytes = 256 * 1024 * 1024;

/** The content of `oci-layout`. */
export const layoutFile = JSON.stringify({ imageLayoutVersion: '1.0.0' });
export const emptyIndex = { schemaVersion: 2, mediaType: mediaTypes.imageIndex, manifests: [] };

/** Where index.json lies. */
export interface IndexFile {
  /** The layout it belongs to, for messages. */
  readonly name: string;
  /** Undefined when there is none. */
  read(): Promise<Uint8Array | undefined>;
  /** `first`: there was none. */
  write(text: string, first: boolean): Promise<void>;
  /** Keeps other processes from changing it. */
  lock(options: CallOptions): Promise<Disposable>;
}

export class LayoutIndex {
  readonly #file: IndexFile;
  readonly #changes = new Semaphore(1);

  constructor(file: IndexFile) {
    this.#file = file;
  }

  /** Errors: NAME_UNKNOWN when this is no image layout, UNKNOWN when its index is damaged or too large. */
  async manifests(): Promise<readonly Descriptor[]> {
    const bytes = await this.#file.read();
    if (bytes === undefined)
      throw new RegistryError('NAME_UNKNOWN', `${this.#file.name} is not an oci image layout (it has no index.json)`);
    return this.#checked(bytes, maxManifestBytes, () => parseImageIndex(bytes, mediaTypes.imageIndex).manifests);
  }

  /** Whether there is a layout at all. */
  async exists(): Promise<boolean> {
    return (await this.#file.read()) !== undefined;
  }

  /**
   * Lists `descriptor`, under `tag` when given; another manifest of that tag loses it, or is given to `refuse`, which throws. The first change makes the
   * layout.
   */
  async add(
    descriptor: Descriptor,
    tag: string | undefined,
    options: CallOptions & { readonly refuse?: ((holder: string) => never) | undefined } = {},
  ): Promise<void> {
    await this.change((entries) => {
      const holder = tag === undefined ? undefined : findTagged(entries, tag, entryName)?.['digest'];
      if (typeof holder === 'string' && holder !== descriptor.digest) options.refuse?.(holder);
      const named = entries.filter((entry) => tag === undefined || entryName(entry) !== tag);
      if (tag === undefined)
        return named.some((entry) => entry['digest'] === descriptor.digest) ? named : [...named, { ...descriptor }];
      // An entry without a name says no more than the one with it.
      const others = named.filter((entry) => entry['digest'] !== descriptor.digest || entryName(entry) !== undefined);
      return [...others, { ...descriptor, annotations: { ...descriptor.annotations, [refName]: tag } }];
    }, options);
  }

  /** Takes out the entries for which `unwanted` holds; returns how many. */
  async remove(
    unwanted: (entry: { readonly digest: unknown; readonly tag: string | undefined }) => boolean,
    options: CallOptions = {},
  ): Promise<number> {
    let removed = 0;
    if (!(await this.exists())) return removed;
    await this.change((entries) => {
      const left = entries.filter((entry) => !unwanted({ digest: entry['digest'], tag: entryName(entry) }));
      removed = entries.length - left.length;
      return removed === 0 ? entries : left;
    }, options);
    return removed;
  }

  /**
   * Replaces the entries by what `change` makes of them, while no other process does; what else is in index.json stays. Nothing is written when it returns
   * the entries it was given. Errors: UNKNOWN when index.json is damaged or too large, the signal's reason while it waits.
   */
  async change(
    change: (entries: readonly JsonObject[]) => readonly JsonObject[] | Promise<readonly JsonObject[]>,
    options: CallOptions = {},
  ): Promise<void> {
    await this.locked(options, async () => await this.#changeNow(change));
  }

  /** Runs `work` while nobody changes index.json. */
  async locked(options: CallOptions, work: () => Promise<void>): Promise<void> {
    using _turn = await this.#changes.acquire(1, options);
    using _lock = await this.#file.lock(options);
    await work();
  }

  /** The entries for which `wanted` holds; none when there is no index.json. Errors: UNKNOWN. */
  async select(wanted: (entry: JsonObject) => boolean): Promise<readonly Descriptor[]> {
    const bytes = await this.#file.read();
    if (bytes === undefined) return [];
    return this.#checked(bytes, maxIndexBytes, () =>
      entriesOf(parseJsonObject(bytes, 'index.json'))
        .filter(wanted)
        .map((entry) => parseDescriptor(entry, 'index.json entry')),
    );
  }

  async #changeNow(change: (entries: readonly JsonObject[]) => readonly JsonObject[] | Promise<readonly JsonObject[]>) {
    const bytes = await this.#file.read();
    const raw =
      bytes === undefined
        ? emptyIndex
        : this.#checked(bytes, maxIndexBytes, () => parseJsonObject(bytes, 'index.json'));
    const entries = bytes === undefined ? [] : this.#checked(bytes, maxIndexBytes, () => entriesOf(raw));
    const changed = await change(entries);
    if (bytes === undefined || changed !== entries)
      await this.#file.write(JSON.stringify({ ...raw, manifests: changed }), bytes === undefined);
  }

  #checked<T>(bytes: Uint8Array, maxBytes: number, parse: () => T): T {
    if (bytes.byteLength > maxBytes)
      throw new RegistryError('UNKNOWN', `index.json of ${this.#file.name} has ${bytes.byteLength} bytes`);
    try {
      return parse();
    } catch (error) {
      if (!(error instanceof OciError)) throw error;
      throw new RegistryError('UNKNOWN', `index.json of ${this.#file.name}: ${error.message}`, {
        cause: error,
      });
    }
  }
}

function entriesOf(index: JsonObject): readonly JsonObject[] {
  const { manifests } = index as { manifests?: unknown };
  return Array.isArray(manifests) ? manifests.map((entry) => asObject(entry, 'index.json entry')) : [];
}

/** Some tools write the whole reference as the name. */
export function findTagged<T>(
  entries: readonly T[],
  tag: string,
  nameOf: (entry: T) => string | undefined,
): T | undefined {
  return entries.find((entry) => nameOf(entry) === tag) ?? entries.find((entry) => nameOf(entry)?.endsWith(`:${tag}`));
}

export function entryName(entry: JsonObject): string | undefined {
  const { annotations } = entry as { annotations?: unknown };
  const name =
    typeof annotations === 'object' && annotations !== null
      ? (annotations as Record<string, unknown>)[refName]
      : undefined;
  return typeof name === 'string' ? name : undefined;
}
