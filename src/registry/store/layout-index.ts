// index.json of an OCI image layout (image spec, image-layout.md): read with every check, changed without losing what others wrote.
import path from 'node:path';
import type { Descriptor } from '../../oci/descriptor.ts';
import { OciError } from '../../oci/errors.ts';
import { asObject, parseJsonObject } from '../../oci/json.ts';
import type { JsonObject } from '../../oci/json.ts';
import { maxManifestBytes, parseImageIndex } from '../../oci/manifest.ts';
import { mediaTypes } from '../../oci/media-type.ts';
import { makeDirectory } from '../../util/make-directory.ts';
import { Semaphore } from '../../util/semaphore.ts';
import { RegistryError } from '../errors.ts';
import { readIfPresent, writeDurably } from './durable-file.ts';

export const refName = 'org.opencontainers.image.ref.name';

const layoutFile = JSON.stringify({ imageLayoutVersion: '1.0.0' });
const emptyIndex = { schemaVersion: 2, mediaType: mediaTypes.imageIndex, manifests: [] };

export class LayoutIndex {
  readonly #dir: string;
  readonly #changes = new Semaphore(1);

  constructor(dir: string) {
    this.#dir = dir;
  }

  /** Errors: NAME_UNKNOWN when the directory is no image layout, MANIFEST_INVALID when its index is damaged. */
  async manifests(): Promise<readonly Descriptor[]> {
    const bytes = await readIfPresent(this.#file);
    if (bytes === undefined)
      throw new RegistryError('NAME_UNKNOWN', `${this.#dir} is not an oci image layout (it has no index.json)`);
    return this.#checked(bytes, () => parseImageIndex(bytes, mediaTypes.imageIndex).manifests);
  }

  /** Whether there is a layout at all. */
  async exists(): Promise<boolean> {
    return (await readIfPresent(this.#file)) !== undefined;
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

  get #file(): string {
    return path.join(this.#dir, 'index.json');
  }

  async #change(change: (entries: readonly JsonObject[]) => readonly JsonObject[]): Promise<void> {
    await this.#changes.run(async () => {
      const bytes = await readIfPresent(this.#file);
      const raw = bytes === undefined ? emptyIndex : this.#checked(bytes, () => parseJsonObject(bytes, 'index.json'));
      const entries =
        'manifests' in raw && Array.isArray(raw.manifests)
          ? raw.manifests.map((entry) => asObject(entry, 'index.json entry'))
          : [];
      const changed = change(entries);
      if (bytes === undefined) {
        await makeDirectory(this.#dir);
        await writeDurably(path.join(this.#dir, 'oci-layout'), layoutFile);
      }
      await writeDurably(this.#file, JSON.stringify({ ...raw, manifests: changed }));
    });
  }

  #checked<T>(bytes: Uint8Array, parse: () => T): T {
    if (bytes.byteLength > maxManifestBytes)
      throw new RegistryError('TOO_LARGE', `index.json of ${this.#dir} has ${bytes.byteLength} bytes`);
    try {
      return parse();
    } catch (error) {
      if (!(error instanceof OciError)) throw error;
      throw new RegistryError('MANIFEST_INVALID', `index.json of ${this.#dir}: ${error.message}`, { cause: error });
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
