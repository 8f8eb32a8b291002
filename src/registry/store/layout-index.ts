// index.json of an OCI image layout (image spec, image-layout.md): read with every check, changed without losing what others wrote.
import type { Descriptor } from '../../oci/descriptor.ts';
import { OciError } from '../../oci/errors.ts';
import { asObject, parseJsonObject } from '../../oci/json.ts';
import type { JsonObject } from '../../oci/json.ts';
import { maxManifestBytes, parseImageIndex } from '../../oci/manifest.ts';
import { mediaTypes } from '../../oci/media-type.ts';
import { Semaphore } from '../../util/semaphore.ts';
import { RegistryError } from '../errors.ts';

export const refName = 'org.opencontainers.image.ref.name';

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
}

export class LayoutIndex {
  readonly #file: IndexFile;
  readonly #changes = new Semaphore(1);

  constructor(file: IndexFile) {
    this.#file = file;
  }

  /** Errors: NAME_UNKNOWN when this is no image layout, MANIFEST_INVALID when its index is damaged. */
  async manifests(): Promise<readonly Descriptor[]> {
    const bytes = await this.#file.read();
    if (bytes === undefined)
      throw new RegistryError('NAME_UNKNOWN', `${this.#file.name} is not an oci image layout (it has no index.json)`);
    return this.#checked(bytes, () => parseImageIndex(bytes, mediaTypes.imageIndex).manifests);
  }

  /** Whether there is a layout at all. */
  async exists(): Promise<boolean> {
    return (await this.#file.read()) !== undefined;
  }

  /** Lists `descriptor`, under `tag` when given; another manifest of that tag loses it. The first change makes the layout. */
  async add(descriptor: Descriptor, tag: string | undefined): Promise<void> {
    await this.#change((entries) => {
      const named = entries.filter((entry) => tag === undefined || nameOf(entry) !== tag);
      if (tag === undefined)
        return named.some((entry) => entry['digest'] === descriptor.digest) ? named : [...named, { ...descriptor }];
      // An entry without a name says no more than the one with it.
      const others = named.filter((entry) => entry['digest'] !== descriptor.digest || nameOf(entry) !== undefined);
      return [...others, { ...descriptor, annotations: { ...descriptor.annotations, [refName]: tag } }];
    });
  }

  /** Takes out the entries for which `unwanted` holds; returns how many. */
  async remove(
    unwanted: (entry: { readonly digest: unknown; readonly tag: string | undefined }) => boolean,
  ): Promise<number> {
    let removed = 0;
    await this.#change((entries) => {
      const left = entries.filter((entry) => !unwanted({ digest: entry['digest'], tag: nameOf(entry) }));
      removed = entries.length - left.length;
      return left;
    });
    return removed;
  }

  async #change(change: (entries: readonly JsonObject[]) => readonly JsonObject[]): Promise<void> {
    await this.#changes.run(async () => {
      const bytes = await this.#file.read();
      const raw = bytes === undefined ? emptyIndex : this.#checked(bytes, () => parseJsonObject(bytes, 'index.json'));
      const entries =
        'manifests' in raw && Array.isArray(raw.manifests)
          ? raw.manifests.map((entry) => asObject(entry, 'index.json entry'))
          : [];
      const changed = change(entries);
      await this.#file.write(JSON.stringify({ ...raw, manifests: changed }), bytes === undefined);
    });
  }

  #checked<T>(bytes: Uint8Array, parse: () => T): T {
    if (bytes.byteLength > maxManifestBytes)
      throw new RegistryError('TOO_LARGE', `index.json of ${this.#file.name} has ${bytes.byteLength} bytes`);
    try {
      return parse();
    } catch (error) {
      if (!(error instanceof OciError)) throw error;
      throw new RegistryError('MANIFEST_INVALID', `index.json of ${this.#file.name}: ${error.message}`, {
        cause: error,
      });
    }
  }
}

function nameOf(entry: JsonObject): string | undefined {
  const { annotations } = entry as { annotations?: unknown };
  const name =
    typeof annotations === 'object' && annotations !== null
      ? (annotations as Record<string, unknown>)[refName]
      : undefined;
  return typeof name === 'string' ? name : undefined;
}
