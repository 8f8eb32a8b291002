// A registry, images of tar members, and the unpacker of a node, in this process.
import { renameSync } from 'node:fs';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { configSchema } from '../../src/config/schema.ts';
import type { DaemonConfig } from '../../src/config/schema.ts';
import type { Node, NodeOptions } from '../../src/daemon/node.ts';
import { openUnpacker } from '../../src/daemon/unpacking.ts';
import { sourceOf } from '../../src/image/origin-blob.ts';
import type { OpenLayerRequest } from '../../src/layer/layer-store.ts';
import type { Layer } from '../../src/layer/layer.ts';
import { createLog } from '../../src/observe/log.ts';
import { parseReference } from '../../src/oci/reference.ts';
import type { NodeUnpacker } from '../../src/unpack/node-unpacker.ts';
import type { LayerToUnpack, UnpackImageRequest, UnpackLayerRequest } from '../../src/unpack/unpacker.ts';
import { Semaphore } from '../../src/util/semaphore.ts';
import { foreignIndex } from './foreign-index.ts';
import type { ForeignIndexOptions } from './foreign-index.ts';
import { ImageLab } from './image-lab.ts';
import type { LabImage, LabLayer } from './image-lab.ts';

const { signal: neverAborted } = new AbortController();

export type UnpackConfig = Partial<DaemonConfig['unpack']>;

export class UnpackLab {
  readonly lab: ImageLab;
  #made = 0;

  private constructor(lab: ImageLab) {
    this.lab = lab;
  }

  static async start(): Promise<UnpackLab> {
    return new UnpackLab(await ImageLab.start());
  }

  /** A node that is to unpack an image of one layer. */
  static async ofLayer(made: LabLayer, unpack: UnpackConfig = {}) {
    const lab = await UnpackLab.start();
    const image = await lab.lab.push('1', [made]);
    const node = await lab.node();
    const unpacker = await lab.unpacker(node, unpack);
    return { lab, image, node, unpacker, request: await lab.request(node, image) };
  }

  async node(options: NodeOptions = {}): Promise<Node> {
    return await this.lab.node(options);
  }

  /** Closed when the test ends. */
  async unpacker(
    node: Node,
    unpack: UnpackConfig = {},
    download: Partial<DaemonConfig['download']> = {},
  ): Promise<NodeUnpacker> {
    const defaults = configSchema.parse({});
    const config = {
      ...defaults,
      unpack: { ...defaults.unpack, reserve: 0, ...unpack },
      download: { ...defaults.download, ...download },
    };
    const log = createLog({ level: process.env['PEEL_TEST_LOG'] ?? 'silent' });
    const unpacker = await openUnpacker({ node, config: () => config, log });
    onTestFinished(() => unpacker.close());
    return unpacker;
  }

  async layers(node: Node, image: LabImage): Promise<LayerToUnpack[]> {
    const origin = await node.imageDeps.openOrigin(parseReference(image.reference));
    return image.layers.map(({ descriptor, diffId }) => ({ descriptor, diffId, source: sourceOf(origin, descriptor) }));
  }

  async request(
    node: Node,
    image: LabImage,
    layer = 0,
    form: UnpackLayerRequest['form'] = 'overlay',
  ): Promise<UnpackLayerRequest> {
    const found = (await this.layers(node, image))[layer];
    if (found === undefined) throw new RangeError(`no layer ${layer}`);
    return { ...found, image: image.reference, form };
  }

  /** The image in a new directory. */
  async unpackImage(
    unpacker: NodeUnpacker,
    node: Node,
    image: LabImage,
    options: Partial<UnpackImageRequest> & { readonly signal?: AbortSignal } = {},
  ): Promise<string> {
    const dir = this.path(`image-${this.#made++}`);
    const layers = await this.layers(node, image);
    const { signal = neverAborted, ...change } = options;
    const request = { image: image.reference, layers, dir, ownership: 'entries' as const, ...change };
    await unpacker.unpackImage(request, { signal });
    return request.dir;
  }

  /** A layer, unpacked and taken to a new directory. */
  async take(unpacker: NodeUnpacker, request: UnpackLayerRequest, signal = neverAborted): Promise<string> {
    const tree = await unpacker.unpackLayer(request, { signal });
    const dir = this.path(`taken-${this.#made++}`);
    tree.claim((from) => renameSync(from, dir));
    return dir;
  }

  /** What the node has of the layer by an index that a registry offered, and of its spans those that `read` reads. */
  async openLazily(
    node: Node,
    image: LabImage,
    position: number,
    options: (ForeignIndexOptions & { readonly of?: LabLayer }) | Pick<OpenLayerRequest, 'findIndex'>,
    read: (layer: Layer) => Promise<unknown> = async () => {},
  ): Promise<void> {
    const [found, layer] = [(await this.layers(node, image))[position], image.layers[position]];
    if (found === undefined || layer === undefined) throw new RangeError(`no layer ${position}`);
    const { source, descriptor, diffId } = found;
    const opened = await node.imageDeps.layers.open({
      descriptor,
      diffId,
      source,
      slots: new Semaphore(4),
      indexRequired: true,
      onWarning: () => {},
      findIndex: 'findIndex' in options ? options.findIndex : await foreignIndex(options.of ?? layer, options),
    });
    await read(opened);
    await opened.close();
  }

  /** A folder of the test, on the filesystem of the nodes. */
  path(name: string): string {
    return join(this.lab.dir, name);
  }
}
