// Puts one layer's tree at a directory: as EROFS over the layer's file or over a file of one shared FUSE connection, or as a FUSE
// mount of its own where the kernel's EROFS cannot be used.
import { closeSync } from 'node:fs';
import { errorMessage } from '../layer/errors.ts';
import { fileIdentity } from '../layer/file-identity.ts';
import type { Layer } from '../layer/layer.ts';
import { FuseServer } from '../native/fuse-server.ts';
import { erofsMount, newFuseMount } from '../native/mounts.ts';
import type { DetachedMount } from '../native/mounts.ts';
import { canDirectIo } from '../native/sys.ts';
import type { Logger } from '../observe/log.ts';
import { Semaphore } from '../util/semaphore.ts';
import { ImageError } from './errors.ts';
import type { KeptConnection } from './kept-connection.ts';
import type { KeptConnections } from './kept-connections.ts';
import { LayerAdoption, blobsOwner, retireBlob, treeOwner, treeThreads } from './layer-adoption.ts';
import type { LayerTransport, MountedLayer } from './mounted-layer.ts';
import { withReadAhead } from './transports/read-ahead.ts';

export type LayerTransportChoice = 'auto' | LayerTransport;

export interface LayerMounterOptions {
  /** Where connections outlive this process. */
  readonly connections?: KeptConnections | undefined;
  readonly transport: LayerTransportChoice;
  /** Why the kernel must not mount trees here, or undefined. */
  readonly kernelRefusal: () => Promise<string | undefined>;
  readonly log: Logger;
}

export interface LayerMountRequest {
  readonly slot: number;
  readonly layer: Layer;
  /** Path of the compiled tree, which has one device. */
  readonly tree: string;
  /** An empty directory. */
  readonly dir: string;
}

interface BlobsConnection {
  readonly server: FuseServer;
  readonly mount: DetachedMount;
  readonly kept: KeptConnection | undefined;
}

export class LayerMounter {
  readonly #o: LayerMounterOptions;
  /** The kernel does not say which backing device belongs to which mount: one is made at a time. */
  readonly #erofsMounts = new Semaphore(1);
  #refusal: Promise<string | undefined> | undefined;
  #blobs: Promise<BlobsConnection> | undefined;
  /** Of single layers, and connections of an earlier process that take no new layers. */
  readonly #others = new Map<FuseServer, KeptConnection | undefined>();
  #server: FuseServer | undefined;
  #names = 0;
  #adoption: LayerAdoption | undefined;
  #isClosed = false;

  readonly #onError = (message: string) => this.#o.log.error({}, message);

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
    const servers = [...this.#others.keys(), ...(this.#server === undefined ? [] : [this.#server])];
    return servers.reduce((sum, server) => sum + server.stats().errors, 0);
  }

  /** Ends all serving and unmounts nothing. Idempotent. */
  async close(): Promise<void> {
    this.#isClosed = true;
    const blobs = await this.#blobs?.catch(() => undefined);
    this.#blobs = undefined;
    blobs?.mount.close();
    const servers = [...this.#others, ...(blobs === undefined ? [] : [[blobs.server, blobs.kept] as const])];
    await Promise.all(servers.map(async ([server, kept]) => await (kept?.leave(server) ?? server.stop())));
  }

  /**
   * What an earlier process served goes on here: `adopt` each layer that is still mounted, then `start`. Until then nothing of it is
   * answered, and nothing else may be mounted. Undefined where nothing was kept.
   */
  adoption(): LayerAdoption | undefined {
    const { connections } = this.#o;
    if (connections === undefined || this.#adoption !== undefined) return undefined;
    this.#adoption = new LayerAdoption(connections, this.#onError);
    return this.#adoption;
  }

  /** Takes over what was adopted; from now on it is served. */
  start(adoption: LayerAdoption): void {
    const { layers } = adoption;
    for (const { server, kept, mount } of adoption.start()) {
      if (mount === undefined || this.#blobs !== undefined) this.#serveOther(server, kept);
      else this.#blobs = this.#shared(Promise.resolve({ server, kept, mount }));
      if (mount !== undefined && this.#server === undefined) this.#server = server;
      this.#names = Math.max(this.#names, kept.nextNode);
    }
    if (layers === 0) return;
    const { user, system } = process.cpuUsage();
    const cost = { processMs: Math.round(performance.now()), cpuMs: Math.round((user + system) / 1000) };
    this.#o.log.info({ layers, ...cost }, 'layers are served again');
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
    const { server, mount, kept } = await this.#connection();
    // A name of an attempt that failed is not free any more, nor is one of an earlier process.
    this.#names += 1;
    const name = `${request.slot.toString(36)}-${this.#names.toString(36)}`;
    const node = server.addBlob(name, layer.cache, { passthrough: layer.cache.complete });
    const blob = { name, node, place: request.slot, layer: layer.descriptor.digest };
    const retire = retireBlob(server, kept, blob);
    try {
      kept?.addBlob(blob);
      await this.#attachErofs(request, `${mount.path}/${name}`, {
        readAhead: layer.cache.complete,
        onMounted: () => kept?.blobOpened(server, blob),
      });
    } catch (error) {
      await retire();
      throw error;
    }
    return { transport: 'kernel', direct: false, retire };
  }

  async #attachErofs(
    { layer, tree, dir }: LayerMountRequest,
    device: string,
    { readAhead, onMounted }: { readonly readAhead: boolean; readonly onMounted?: () => void },
  ): Promise<void> {
    const directIo = canDirectIo(layer.paths.data);
    // Containers are made of it: what is set-uid or a device there must work.
    const make = () => erofsMount({ source: tree, devices: [device], directIo, noSuidDev: false });
    const mounted = await this.#erofsMounts.run(() => (readAhead ? withReadAhead(make) : make()));
    try {
      onMounted?.();
      await mounted.attach(dir);
    } finally {
      mounted.close();
    }
  }

  async #mountNative({ slot, layer, tree, dir }: LayerMountRequest): Promise<MountedLayer> {
    const { fd, mount } = await newFuseMount({ allowOther: true });
    const kept = this.#o.connections?.create(treeOwner(slot));
    let server: FuseServer | undefined;
    try {
      server = FuseServer.tree({
        fd,
        tree,
        caches: [layer.cache],
        threads: treeThreads,
        onError: (message) => this.#o.log.error({ dir }, message),
        taken: kept?.taken,
      });
      this.#serveOther(server, kept);
      await mount.attach(dir);
      await kept?.keep({ fd }, server, { tree: await fileIdentity(tree) });
    } catch (error) {
      if (server === undefined) closeSync(fd);
      await server?.stop();
      await kept?.end();
      throw error;
    } finally {
      mount.close();
    }
    return { transport: 'native', direct: false, retire: () => server.stop() };
  }

  #serveOther(server: FuseServer, kept: KeptConnection | undefined): void {
    this.#others.set(server, kept);
    void server.closed.then(() => this.#others.delete(server));
  }

  #connection(): Promise<BlobsConnection> {
    this.#blobs ??= this.#shared(this.#connect());
    return this.#blobs;
  }

  #shared(opening: Promise<BlobsConnection>): Promise<BlobsConnection> {
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
    const { fd, mount } = await newFuseMount({ allowOther: false });
    const kept = this.#o.connections?.create(blobsOwner);
    try {
      const server = FuseServer.blobs({ fd, onError: this.#onError, taken: kept?.taken });
      this.#server = server;
      await kept?.keep({ fd, mount: mount.fd }, server);
      return { mount, server, kept };
    } catch (error) {
      mount.close();
      closeSync(fd);
      await kept?.end();
      throw error;
    }
  }
}
