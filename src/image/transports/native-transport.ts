// Our own FUSE server serves the compiled tree and the bytes: works everywhere, for ordinary users through fusermount3.
import { closeSync } from 'node:fs';
import { errorMessage } from '../../layer/errors.ts';
import { fileIdentity } from '../../layer/file-identity.ts';
import { FuseServer } from '../../native/fuse-server.ts';
import type { TreeServerOptions } from '../../native/fuse-server.ts';
import { fuseMountUnprivileged, fusermountPath, newFuseMount, unmountUnprivileged } from '../../native/mounts.ts';
import { ImageError } from '../errors.ts';
import type { KeptConnection } from '../kept-connection.ts';
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

  async mount(request: MountRequest): Promise<Served> {
    const { image, dir, keep } = request;
    const kept = keep?.();
    const tree = { ...(await treeOptions(request)), taken: kept?.taken };
    try {
      const server = this.#options.uid === 0 ? await mountAsRoot(dir, tree, kept) : await mountAsUser(dir, tree, kept);
      return served(server, kept);
    } catch (cause) {
      await kept?.end();
      throw new ImageError('ERR_MOUNT_TRANSPORT', `cannot serve ${image.reference} on ${dir}: ${errorMessage(cause)}`, {
        cause,
      });
    }
  }

  async adopt(request: MountRequest, kept: KeptConnection): Promise<Served | undefined> {
    const options = await treeOptions(request);
    // The kernel knows nodes of this very file.
    const fds = kept.tree === (await fileIdentity(options.tree)) ? kept.takeFds() : undefined;
    if (fds === undefined) {
      await kept.end();
      return undefined;
    }
    const server = serveTree(fds.fd, { ...options, adoption: kept.adoption, taken: kept.taken });
    kept.follow(server);
    server.start();
    return served(server, kept);
  }
}

async function treeOptions({ image, dir, log, signal }: MountRequest): Promise<TreeOptions> {
  return {
    tree: await image.treeFile({ signal }),
    caches: image.openLayers.map((layer) => layer.cache),
    onError: (message) => log.error({ dir }, message),
  };
}

function served(server: FuseServer, kept: KeptConnection | undefined): Served {
  return {
    warnings: [],
    closed: server.closed,
    errors: () => server.stats().errors,
    stop: () => server.stop(),
    leave: () => kept?.leave(server) ?? server.stop(),
  };
}

async function mountAsRoot(dir: string, tree: TreeOptions, kept: KeptConnection | undefined): Promise<FuseServer> {
  const { fd, mount } = await newFuseMount({ allowOther: true });
  let server: FuseServer | undefined;
  try {
    server = serveTree(fd, tree);
    await mount.attach(dir);
    await kept?.keep({ fd }, server, { tree: await fileIdentity(tree.tree) });
    return server;
  } catch (error) {
    await server?.stop();
    throw error;
  } finally {
    mount.close();
  }
}

async function mountAsUser(dir: string, tree: TreeOptions, kept: KeptConnection | undefined): Promise<FuseServer> {
  const fd = await fuseMountUnprivileged(dir);
  try {
    const server = serveTree(fd, tree);
    await kept?.keep({ fd }, server, { tree: await fileIdentity(tree.tree) });
    return server;
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
