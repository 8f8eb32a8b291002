// Layers of a registry behind an HTTP front that misbehaves on demand, opened by an index in a store of their own.
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { onTestFinished } from 'vitest';
import { type BlobSource, registryBlobSource } from '../../src/layer/blob-source.ts';
import type { Layer } from '../../src/layer/layer.ts';
import { LayerDirectories } from '../../src/layer/layer-paths.ts';
import { LayerStore } from '../../src/layer/layer-store.ts';
import { silentLog } from '../../src/observe/log.ts';
import type { Digest } from '../../src/oci/digest.ts';
import { DirRegistry } from '../../src/registry/dir-registry.ts';
import { RemoteRegistry } from '../../src/registry/remote-registry.ts';
import { serveRegistry } from '../../src/registry/serve-registry.ts';
import { openState } from '../../src/state/state.ts';
import { Semaphore } from '../../src/util/semaphore.ts';
import { foreignIndex } from './foreign-index.ts';
import type { LabLayer } from './image-lab.ts';
import { RegistryFront } from './registry-front.ts';
import { tempDir } from './tmp.ts';

const repository = 'lab/layers';

export interface OpenOptions {
  readonly spanSize: number;
  readonly diffId?: Digest;
  readonly change?: (ztoc: Uint8Array) => Uint8Array;
}

export class LayerLab {
  readonly front: RegistryFront;
  readonly slots = new Semaphore(4);
  readonly #registry: DirRegistry;
  readonly #remote: RemoteRegistry;
  readonly #store: LayerStore;

  private constructor(registry: DirRegistry, front: RegistryFront, remote: RemoteRegistry, store: LayerStore) {
    this.#registry = registry;
    this.front = front;
    this.#remote = remote;
    this.#store = store;
  }

  /** Closed when the test ends. */
  static async start(options: { readDeadlineMs?: number } = {}): Promise<LayerLab> {
    const registry = new DirRegistry(tempDir('peel-lab-registry-'));
    const server = await serveRegistry(registry);
    const front = await RegistryFront.start(server.host);
    const backoff = { attempts: 2, baseMs: 1, maxMs: 5, maxRetryAfterMs: 5 };
    const remote = new RemoteRegistry({ host: front.host, backoff });
    const root = tempDir('peel-lab-node-');
    const state = openState(root);
    const store = new LayerStore({
      directories: await LayerDirectories.open(root, join(root, 'run')),
      table: state.layers,
      slots: new Semaphore(16),
      log: silentLog(),
      readDeadlineMs: options.readDeadlineMs ?? 10_000,
    });
    onTestFinished(async () => {
      await remote.close();
      await front.close();
      await server.close();
      state.close();
    });
    return new LayerLab(registry, front, remote, store);
  }

  async push({ descriptor, blob }: LabLayer): Promise<BlobSource> {
    await this.#registry.pushBlob(repository, descriptor, () => Readable.from([blob]));
    return registryBlobSource(this.#remote, repository, 'lab', descriptor);
  }

  /** The layer by a zTOC of it, with nothing of it on the node; closed when the test ends. */
  async open(layer: LabLayer, options: OpenOptions): Promise<Layer> {
    const source = await this.push(layer);
    const opened = await this.#store.open({
      descriptor: layer.descriptor,
      diffId: options.diffId ?? layer.diffId,
      source,
      slots: this.slots,
      indexRequired: true,
      onWarning: () => {},
      findIndex: await foreignIndex(layer, options),
    });
    onTestFinished(() => opened.close());
    return opened;
  }
}
