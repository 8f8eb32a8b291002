// The kernel mounts the compiled tree as EROFS; its devices are files of a FUSE mount that is attached nowhere, one per layer.
import { errorMessage } from '../../layer/errors.ts';
import { FuseServer } from '../../native/fuse-server.ts';
import { erofsMount, newFuseMount } from '../../native/mounts.ts';
import type { DetachedMount } from '../../native/mounts.ts';
import { type ResidentFile, keepResident } from '../../native/resident-file.ts';
import { canDirectIo } from '../../native/sys.ts';
import { ImageError } from '../errors.ts';
import { kernelRefusal } from '../kernel-probe.ts';
import type { LoadedImage } from '../loaded-image.ts';
import { fuseDeviceRefusal } from './fuse-device.ts';
import { withReadAhead } from './read-ahead.ts';
import type { MountRequest, Served, Transport } from './transport.ts';

/** Bytes. A larger tree, of millions of files, is left to the page cache. */
const residentTreeLimit = 256 * 1024 * 1024;

export interface KernelTransportOptions {
  readonly uid: number;
  readonly root: string;
  readonly runDir: string;
}

export class KernelTransport implements Transport {
  readonly name = 'kernel';
  readonly #options: KernelTransportOptions;

  constructor(options: KernelTransportOptions) {
    this.#options = options;
  }

  async refusal(_image: LoadedImage): Promise<string | undefined> {
    const { uid, root, runDir } = this.#options;
    if (uid !== 0) return 'it needs root';
    return fuseDeviceRefusal() ?? (await kernelRefusal(root, runDir));
  }

  async mount({ image, dir, log, signal }: MountRequest): Promise<Served> {
    const source = await image.treeFile({ signal });
    const { fd, mount: blobs } = await newFuseMount({ allowOther: false });
    const server = FuseServer.blobs({ fd, onError: (message) => log.error({ dir }, message) });
    try {
      const names = image.openLayers.map((layer, slot) => {
        const name = slot.toString(36);
        server.addBlob(name, layer.cache, { passthrough: layer.cache.complete });
        return name;
      });
      const mountTree = (): Promise<DetachedMount> => this.#mountErofs(image, source, blobs, names);
      const complete = image.openLayers.every((layer) => layer.cache.complete);
      const mounted = complete ? await withReadAhead(mountTree) : await mountTree();
      await mounted.attach(dir);
    } catch (cause) {
      await server.stop();
      throw new ImageError(
        'ERR_MOUNT_TRANSPORT',
        `the kernel does not mount the tree of ${image.reference}: ${errorMessage(cause)}`,
        { cause },
      );
    } finally {
      // From now on the EROFS mount alone holds it, so the connection ends with that mount.
      blobs.close();
    }
    const tree = await keepResident(source, residentTreeLimit).catch((cause: unknown): undefined => {
      log.debug({ dir, reason: errorMessage(cause) }, 'tree not kept in memory');
    });
    return {
      warnings: [],
      closed: server.closed,
      errors: () => server.stats().errors,
      stop: () => stop(server, tree),
    };
  }

  /** Pages are cached once where the devices can be read past the cache; where a disk or kernel refuses that, twice. */
  async #mountErofs(
    image: LoadedImage,
    source: string,
    blobs: DetachedMount,
    names: readonly string[],
  ): Promise<DetachedMount> {
    const options = { source, devices: names.map((name) => `${blobs.path}/${name}`), noSuidDev: true };
    if (!image.openLayers.every((layer) => canDirectIo(layer.paths.data)))
      return await erofsMount({ ...options, directIo: false });
    return await erofsMount({ ...options, directIo: true });
  }
}

async function stop(server: FuseServer, tree: ResidentFile | undefined): Promise<void> {
  tree?.release();
  await server.stop();
}
