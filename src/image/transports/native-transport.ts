// Our own FUSE server serves the compiled tree and the bytes: works everywhere, for ordinary users through fusermount3.
import { closeSync } from 'node:fs';
import { errorMessage } from '../../layer/errors.ts';
import { FuseServer } from '../../native/fuse-server.ts';
import type { TreeServerOptions } from '../../native/fuse-server.ts';
import { fuseMountUnprivileged, fusermountPath, newFuseMount, unmountUnprivileged } from '../../native/mounts.ts';
import { ImageError } from '../errors.ts';
import type { LoadedImage } from '../loaded-image.ts';
import { fuseDeviceRefusal } from './fuse-device.ts';
import type { MountRequest, Served, Transport } from './transport.ts';

export interface NativeTransportOptions {
  readonly uid: number;
}

type TreeOptions = Omit<TreeServerOptions, 'fd'>;

export class NativeTransport implements Transport {
  readonly name = 'native';
  readonly #options: NativeTransportOptions;

  constructor(options: NativeTransportOptions) {
    this.#options = options;
  }

  async refusal(_image: LoadedImage): Promise<string | undefined> {
    const refusal = fuseDeviceRefusal();
    if (refusal !== undefined || this.#options.uid === 0) return refusal;
    return fusermountPath() === undefined ? 'fusermount3 is not installed (apt-get install fuse3)' : undefined;
  }

  async mount({ image, dir, log, signal }: MountRequest): Promise<Served> {
    const tree: TreeOptions = {
      tree: await image.treeFile({ signal }),
      caches: image.openLayers.map((layer) => layer.cache),
      onError: (message) => log.error({ dir }, message),
    };
    try {
      const server = this.#options.uid === 0 ? await mountAsRoot(dir, tree) : await mountAsUser(dir, tree);
      return {
        warnings: [],
        closed: server.closed,
        errors: () => server.stats().errors,
        stop: () => server.stop(),
      };
    } catch (cause) {
      throw new ImageError('ERR_MOUNT_TRANSPORT', `cannot serve ${image.reference} on ${dir}: ${errorMessage(cause)}`, {
        cause,
      });
    }
  }
}

async function mountAsRoot(dir: string, tree: TreeOptions): Promise<FuseServer> {
  const { fd, mount } = await newFuseMount({ allowOther: true });
  let server: FuseServer | undefined;
  try {
    server = serveTree(fd, tree);
    await mount.attach(dir);
    return server;
  } catch (error) {
    await server?.stop();
    throw error;
  } finally {
    mount.close();
  }
}

async function mountAsUser(dir: string, tree: TreeOptions): Promise<FuseServer> {
  const fd = await fuseMountUnprivileged(dir);
  try {
    return serveTree(fd, tree);
  } catch (error) {
    await unmountUnprivileged(dir, { detach: true });
    throw error;
  }
}

/** Owns `fd` also when it throws. */
function serveTree(fd: number, tree: TreeOptions): FuseServer {
  try {
    return FuseServer.tree({ ...tree, fd });
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}
