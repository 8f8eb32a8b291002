// Layers of a registry behind an HTTP front that misbehaves on demand, opened by an index in a store of their own.
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { onTestFinished } from 'vitest';
import { type BlobSource, registryBlobSource } from '../../src/layer/blob-source.ts';
import type { Layer } from '../../src/layer/layer.ts';
import { LayerDirectories } from '../../src/layer/layer-paths.ts';
import { LayerStore } from '../../src/layer/layer-store.ts';
import type { OpenLayerRequest } from '../../src/layer/layer-store.ts';
import { silentLog } from '../../src/observe/log.ts';
import type { Digest } from '../../src/oci/digest.ts';
import { DirRegistry } from '../../src/registry/dir-registry.ts';
import { RemoteRegistry } from '../../src/registry/remote-registry.ts';
import { serveRegistry } from '../../src/registry/serve-registry.ts';
import type { LayerRow, LayerTable } from '../../src/state/layers.ts';
import { openState } from '../../src/state/state.ts';
import { Semaphore } from '../../src/util/semaphore.ts';
import { foreignIndex } from './foreign-index.ts';
import type { LabLayer } from './image-lab.ts';
import { RegistryFront } from './registry-front.ts';
import type { Content } from './registry-content.ts';
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
  readonly #layers: LayerTable;

  private constructor(
    registry: DirRegistry,
    front: RegistryFront,
    remote: RemoteRegistry,
    store: LayerStore,
    layers: LayerTable,
  ) {
    this.#registry = registry;
    this.front = front;
    this.#remote = remote;
    this.#store = store;
    this.#layers = layers;
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
    return new LayerLab(registry, front, remote, store, state.layers);
  }

  async push({ descriptor, blob }: LabLayer): Promise<BlobSource> {
    await this.#registry.pushBlob(repository, descriptor, () => Readable.from([blob]));
    return registryBlobSource(this.#remote, repository, 'lab', descriptor);
  }

  /** The layer by what `findIndex` offers; closed when the test ends. */
  async openBy(
    layer: LabLayer,
    findIndex: OpenLayerRequest['findIndex'],
    options: Partial<Pick<OpenLayerRequest, 'indexRequired' | 'source' | 'onWarning'>> = {},
  ): Promise<Layer> {
    const { descriptor, diffId } = layer;
    const source = options.source ?? (await this.push(layer));
    const opened = await this.#store.open({
      descriptor,
      diffId,
      source,
      findIndex,
      slots: this.slots,
      indexRequired: options.indexRequired,
      onWarning: options.onWarning ?? (() => {}),
    });
    onTestFinished(() => opened.close());
    return opened;
  }

  async pushBlob({ descriptor, bytes }: Content): Promise<void> {
    await this.#registry.pushBlob(repository, descriptor, () => Readable.from([bytes]));
  }

  async deleteBlob({ descriptor }: Content): Promise<void> {
    await this.#registry.deleteBlob(repository, descriptor.digest);
  }

  /** What the node knows of a layer. */
  row({ descriptor }: LabLayer): LayerRow | undefined {
    return this.#layers.get(descriptor.digest);
  }

  /** The layer by a zTOC of it, with nothing of it on the node; closed when the test ends. */
  async open(layer: LabLayer, options: OpenOptions): Promise<Layer> {
    const { diffId = layer.diffId } = options;
    return await this.openBy({ ...layer, diffId }, await foreignIndex(layer, options), { indexRequired: true });
  }
}
