// A registry, images of tar members, and the unpacker of a node, in this process.
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { configSchema } from '../../src/config/schema.ts';
import type { DaemonConfig } from '../../src/config/schema.ts';
import type { Node, NodeOptions } from '../../src/daemon/node.ts';
import { openUnpacker } from '../../src/daemon/unpacking.ts';
import { sourceOf } from '../../src/image/open-image.ts';
import { createLog } from '../../src/observe/log.ts';
import { parseReference } from '../../src/oci/reference.ts';
import type { NodeUnpacker } from '../../src/unpack/node-unpacker.ts';
import type { LayerToUnpack, UnpackLayerRequest } from '../../src/unpack/unpacker.ts';
import { ImageLab } from './image-lab.ts';
import type { LabImage } from './image-lab.ts';

export type UnpackConfig = Partial<DaemonConfig['unpack']>;

export class UnpackLab {
  readonly lab: ImageLab;

  private constructor(lab: ImageLab) {
    this.lab = lab;
  }

  static async start(): Promise<UnpackLab> {
    return new UnpackLab(await ImageLab.start());
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

  /** A folder of the test, on the filesystem of the nodes. */
  path(name: string): string {
    return join(this.lab.dir, name);
  }
}
