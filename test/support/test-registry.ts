// The embedded registry on loopback with a store of its own, behind a front that counts and misbehaves.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Registry } from '../../src/registry/registry.ts';
import { DirRegistry } from '../../src/registry/dir-registry.ts';
import { serveRegistry } from '../../src/registry/serve-registry.ts';
import { type BuiltImage, type ImageOptions, type LayerSource, buildImage, pushImage } from './image-builder.ts';
import { RegistryFront } from './registry-front.ts';

export class TestRegistry {
  readonly dir: string;
  /** The store, without HTTP. */
  readonly store: Registry;
  readonly front: RegistryFront;
  readonly #stop: () => Promise<void>;
  #images = 0;

  private constructor(dir: string, store: Registry, front: RegistryFront, stop: () => Promise<void>) {
    this.dir = dir;
    this.store = store;
    this.front = front;
    this.#stop = stop;
  }

  /** `makeStore` makes another store at the folder it is given. */
  static async start(makeStore?: (dir: string) => Promise<Registry>): Promise<TestRegistry> {
    const dir = mkdtempSync(join(tmpdir(), 'peel-registry-'));
    const folder = join(dir, 'store');
    const store = (await makeStore?.(folder)) ?? new DirRegistry(folder);
    const server = await serveRegistry(store);
    const front = await RegistryFront.start(server.host);
    return new TestRegistry(dir, store, front, () => server.close());
  }

  /** A folder for layers and other input of the tests, removed with the registry. */
  work(name: string): string {
    return join(this.dir, 'work', name);
  }

  /** `host:port/name:tag`. */
  reference(name: string, tag = 'latest'): string {
    return `${this.front.host}/${name}:${tag}`;
  }

  byDigest(name: string, image: BuiltImage): string {
    return `${this.front.host}/${name}@${image.manifest.descriptor.digest}`;
  }

  async push(name: string, layers: readonly LayerSource[], options?: ImageOptions): Promise<BuiltImage> {
    const image = await buildImage(this.work(`image-${this.#images++}`), layers, options);
    await pushImage(this.store, name, 'latest', image);
    return image;
  }

  async close(): Promise<void> {
    await this.front.close();
    await this.#stop();
    rmSync(this.dir, { recursive: true, force: true });
  }
}

/** The same compression for all, or one for each. */
export function layersOf(
  tars: readonly string[],
  ...compressions: readonly LayerSource['compression'][]
): LayerSource[] {
  return tars.map((tar, i) => ({ tar, compression: compressions[i] ?? compressions.at(-1) ?? 'gzip' }));
}
