// Puts one layer's tree at a directory: as EROFS over the layer's file or over a file of one shared FUSE connection, or as a FUSE
// mount of its own where the kernel's EROFS cannot be used.
import { closeSync } from 'node:fs';
import { errorMessage } from '../layer/errors.ts';
import type { Layer } from '../layer/layer.ts';
import { FuseServer } from '../native/fuse-server.ts';
import { erofsMount, newFuseMount } from '../native/mounts.ts';
import type { DetachedMount } from '../native/mounts.ts';
import { canDirectIo } from '../native/sys.ts';
import type { Logger } from '../observe/log.ts';
import { Semaphore } from '../util/semaphore.ts';
import { ImageError } from './errors.ts';
import { withReadAhead } from './transports/read-ahead.ts';

export type LayerTransport = 'kernel' | 'native';
export type LayerTransportChoice = 'auto' | LayerTransport;

export interface MountedLayer {
  readonly transport: LayerTransport;
  /** The kernel reads the layer's file by itself: the mount lives without this process. */
  readonly direct: boolean;
  /** Ends the serving of a layer that was unmounted. Idempotent. */
  retire(): Promise<void>;
}

export interface LayerMounterOptions {
  readonly transport: LayerTransportChoice;
  /** Why the kernel must not mount trees here, or undefined. */
  readonly kernelRefusal: () => Promise<string | undefined>;
  readonly log: Logger;
}

export interface LayerMountRequest {
  /** Names the layer on the shared connection; no two are called the same. */
  readonly name: string;
  readonly layer: Layer;
  /** Path of the compiled tree, which has one device. */
  readonly tree: string;
  /** An empty directory. */
  readonly dir: string;
}

interface BlobsConnection {
  readonly server: FuseServer;
  readonly mount: DetachedMount;
}

/** Threads for a connection that serves one layer: there may be hundreds of them. */
const treeThreads = 2;

export class LayerMounter {
  readonly #o: LayerMounterOptions;
  /** The kernel does not say which backing device belongs to which mount: one is made at a time. */
  readonly #erofsMounts = new Semaphore(1);
  #refusal: Promise<string | undefined> | undefined;
  #blobs: Promise<BlobsConnection> | undefined;
  readonly #trees = new Set<FuseServer>();
  #server: FuseServer | undefined;
  #names = 0;
  #isClosed = false;

  constructor(options: LayerMounterOptions) {
    this.#o = options;
  }

  /** Errors: ERR_IMAGE_LAYER_MOUNT with the reason; nothing is left mounted then. */
  async mount(request: LayerMountRequest): Promise<MountedLayer> {
    const { transport, log } = this.#o;
    const reasons: string[] = [];
    if (transport !== 'native') {
      const refusal = await this.refusal();
      if (refusal === undefined) {
        try {
          return await this.#mountKernel(request);
        } catch (error) {
          reasons.push(`kernel failed: ${errorMessage(error)}`);
        }
      } else reasons.push(`kernel cannot: ${refusal}`);
    }
    if (transport !== 'kernel') {
      try {
        const mounted = await this.#mountNative(request);
        if (reasons.length > 0) log.debug({ dir: request.dir, reasons }, 'layer is served without the kernel');
        return mounted;
      } catch (error) {
        reasons.push(`native failed: ${errorMessage(error)}`);
      }
    }
    throw new ImageError(
      'ERR_IMAGE_LAYER_MOUNT',
      `cannot mount layer ${request.layer.descriptor.digest} on ${request.dir}: ${reasons.join('; ')}`,
    );
  }

  /** Does what the first mount would wait for. Never rejects. */
  async prepare(): Promise<void> {
    if (this.#o.transport === 'native' || (await this.refusal()) !== undefined || this.#isClosed) return;
    await this.#connection().catch(() => undefined);
  }

  /** Why layers are not mounted by the kernel; asked once. */
  refusal(): Promise<string | undefined> {
    this.#refusal ??= this.#o.kernelRefusal().catch((error: unknown) => errorMessage(error));
    return this.#refusal;
  }

  /** Requests of the kernel that were answered with an error, of the connections that are there. */
  fuseErrors(): number {
    const servers = [...this.#trees, ...(this.#server === undefined ? [] : [this.#server])];
    return servers.reduce((sum, server) => sum + server.stats().errors, 0);
  }

  /** Ends all serving and unmounts nothing. Idempotent. */
  async close(): Promise<void> {
    this.#isClosed = true;
    const blobs = await this.#blobs?.catch(() => undefined);
    this.#blobs = undefined;
    blobs?.mount.close();
    await Promise.all([blobs?.server.stop(), ...[...this.#trees].map((server) => server.stop())]);
  }

  async #mountKernel(request: LayerMountRequest): Promise<MountedLayer> {
    const { layer, dir } = request;
    const { log } = this.#o;
    if (layer.cache.complete) {
      try {
        await this.#attachErofs(request, layer.paths.data, { readAhead: true });
        return { transport: 'kernel', direct: true, retire: async () => {} };
      } catch (error) {
        log.debug({ dir, reason: errorMessage(error) }, "the layer's file is no device for the kernel");
      }
    }
    const { server, mount } = await this.#connection();
    // A name of an attempt that failed is not free any more.
    this.#names += 1;
    const name = `${request.name}-${this.#names.toString(36)}`;
    server.addBlob(name, layer.cache, { passthrough: layer.cache.complete });
    try {
      await this.#attachErofs(request, `${mount.path}/${name}`, { readAhead: layer.cache.complete });
    } catch (error) {
      server.removeBlob(name);
      throw error;
    }
    let served = true;
    const retire = async () => {
      if (served) server.removeBlob(name);
      served = false;
    };
    return { transport: 'kernel', direct: false, retire };
  }

  async #attachErofs(
    { layer, tree, dir }: LayerMountRequest,
    device: string,
    { readAhead }: { readonly readAhead: boolean },
  ): Promise<void> {
    const directIo = canDirectIo(layer.paths.data);
    // Containers are made of it: what is set-uid or a device there must work.
    const make = () => erofsMount({ source: tree, devices: [device], directIo, noSuidDev: false });
    const mounted = await this.#erofsMounts.run(() => (readAhead ? withReadAhead(make) : make()));
    await mounted.attach(dir);
  }

  async #mountNative({ layer, tree, dir }: LayerMountRequest): Promise<MountedLayer> {
    const { fd, mount } = await newFuseMount({ allowOther: true });
    let server: FuseServer | undefined;
    try {
      server = this.#serveTree(fd, tree, layer, dir);
      await mount.attach(dir);
    } catch (error) {
      if (server === undefined) closeSync(fd);
      await server?.stop();
      throw error;
    } finally {
      mount.close();
    }
    return { transport: 'native', direct: false, retire: () => server.stop() };
  }

  #serveTree(fd: number, tree: string, layer: Layer, dir: string): FuseServer {
    const onError = (message: string) => this.#o.log.error({ dir }, message);
    const server = FuseServer.tree({ fd, tree, caches: [layer.cache], threads: treeThreads, onError });
    this.#trees.add(server);
    void server.closed.then(() => this.#trees.delete(server));
    return server;
  }

  #connection(): Promise<BlobsConnection> {
    if (this.#blobs !== undefined) return this.#blobs;
    const opening = this.#connect();
    this.#blobs = opening;
    const forget = () => {
      if (this.#blobs === opening) this.#blobs = undefined;
    };
    // One that ends by itself (somebody aborted it) serves nobody any more; the next layer gets another.
    const ended = ({ mount }: BlobsConnection) => {
      forget();
      mount.close();
    };
    opening.then((made) => made.server.closed.then(() => ended(made)), forget);
    return opening;
  }

  async #connect(): Promise<BlobsConnection> {
    const { log } = this.#o;
    const { fd, mount } = await newFuseMount({ allowOther: false });
    try {
      const server = FuseServer.blobs({ fd, onError: (message) => log.error({}, message) });
      this.#server = server;
      return { mount, server };
    } catch (error) {
      mount.close();
      closeSync(fd);
      throw error;
    }
  }
}
