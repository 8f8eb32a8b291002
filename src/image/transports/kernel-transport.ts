// The kernel mounts the compiled tree as EROFS; its devices are files of a FUSE mount that is attached nowhere, one per layer.
import { errorMessage } from '../../layer/errors.ts';
import { FuseServer } from '../../native/fuse-server.ts';
import { erofsMount, newFuseMount } from '../../native/mounts.ts';
import type { DetachedMount } from '../../native/mounts.ts';
import { keepResident } from '../../native/resident-file.ts';
import { canDirectIo } from '../../native/sys.ts';
import { ImageError } from '../errors.ts';
import type { KeptConnection } from '../kept-connection.ts';
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

  async mount({ image, dir, log, keep, signal }: MountRequest): Promise<Served> {
    const source = await image.treeFile({ signal });
    const { fd, mount: blobs } = await newFuseMount({ allowOther: false });
    const kept = keep?.();
    const onError = (message: string) => log.error({ dir }, message);
    const server = FuseServer.blobs({ fd, onError, taken: kept?.taken });
    try {
      const files = image.openLayers.map((layer, place) => {
        const name = place.toString(36);
        const node = server.addBlob(name, layer.cache, { passthrough: layer.cache.complete });
        return { name, node, place, layer: layer.descriptor.digest };
      });
      const names = files.map(({ name }) => name);
      const mountTree = (): Promise<DetachedMount> => this.#mountErofs(image, source, blobs, names);
      const complete = image.openLayers.every((layer) => layer.cache.complete);
      const mounted = complete ? await withReadAhead(mountTree) : await mountTree();
      await mounted.attach(dir);
      await kept?.keep({ fd }, server, { blobs: files });
    } catch (cause) {
      await server.stop();
      await kept?.end();
      throw new ImageError(
        'ERR_MOUNT_TRANSPORT',
        `the kernel does not mount the tree of ${image.reference}: ${errorMessage(cause)}`,
        { cause },
      );
    } finally {
      // From now on the EROFS mount alone holds it, so the connection ends with that mount.
      blobs.close();
    }
    return await served(source, server, { kept, dir, log });
  }

  async adopt({ image, dir, log, signal }: MountRequest, kept: KeptConnection): Promise<Served | undefined> {
    const blobs = kept.blobs();
    const fits = image.openLayers.every(({ descriptor }, place) =>
      blobs.some((blob) => blob.place === place && blob.layer === descriptor.digest && blob.mode !== 'undecided'),
    );
    const fds = fits ? kept.takeFds() : undefined;
    if (fds === undefined) {
      await kept.end();
      return undefined;
    }
    const onError = (message: string) => log.error({ dir }, message);
    const server = FuseServer.blobs({ fd: fds.fd, onError, adoption: kept.adoption, taken: kept.taken });
    for (const blob of blobs) {
      const layer = image.openLayers[blob.place];
      if (layer !== undefined) server.adoptBlob(blob.name, layer.cache, blob);
    }
    kept.follow(server);
    server.start();
    return await served(await image.treeFile({ signal }), server, { kept, dir, log });
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

async function served(
  source: string,
  server: FuseServer,
  { kept, dir, log }: { readonly kept: KeptConnection | undefined } & Pick<MountRequest, 'dir' | 'log'>,
): Promise<Served> {
  const tree = await keepResident(source, residentTreeLimit).catch((cause: unknown): undefined => {
    log.debug({ dir, reason: errorMessage(cause) }, 'tree not kept in memory');
  });
  const end = async (how: () => Promise<void>) => {
    tree?.release();
    await how();
  };
  return {
    warnings: [],
    closed: server.closed,
    errors: () => server.stats().errors,
    stop: () => end(() => server.stop()),
    leave: () => end(() => kept?.leave(server) ?? server.stop()),
  };
}
