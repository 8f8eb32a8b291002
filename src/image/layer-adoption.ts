// Layers of containerd's snapshots that an earlier process served, and which are still mounted: their connections go on here.
import { closeSync } from 'node:fs';
import { fileIdentity } from '../layer/file-identity.ts';
import type { Layer } from '../layer/layer.ts';
import { FuseServer } from '../native/fuse-server.ts';
import { DetachedMount } from '../native/mounts.ts';
import type { BlobRow } from '../state/connections.ts';
import type { KeptConnection } from './kept-connection.ts';
import type { KeptConnections } from './kept-connections.ts';
import type { MountedLayer } from './mounted-layer.ts';

export const blobsOwner = 'layers';
export const treeOwner = (slot: number) => `slot:${slot}`;
/** Threads for a connection that serves one layer: there may be hundreds of them. */
export const treeThreads = 2;

export interface AdoptedConnection {
  readonly server: FuseServer;
  readonly kept: KeptConnection;
  /** How new files are opened; undefined when the connection takes none. */
  readonly mount: DetachedMount | undefined;
}

interface BlobsConnection extends AdoptedConnection {
  /** By slot. */
  readonly blobs: ReadonlyMap<number, BlobRow>;
  readonly adopted: Set<number>;
}

export interface AdoptedLayer {
  readonly slot: number;
  readonly layer: Layer;
}

export class LayerAdoption {
  readonly #connections: KeptConnections;
  readonly #onError: (message: string) => void;
  readonly #blobs: readonly BlobsConnection[];
  readonly #trees: AdoptedConnection[] = [];

  constructor(connections: KeptConnections, onError: (message: string) => void) {
    this.#connections = connections;
    this.#onError = onError;
    this.#blobs = connections.take(blobsOwner).flatMap((kept) => this.#receive(kept) ?? []);
  }

  /** How many were adopted. */
  get layers(): number {
    return this.#blobs.reduce((sum, { adopted }) => sum + adopted.size, this.#trees.length);
  }

  /** What is mounted is EROFS over a file of a connection that is here. */
  hasBlob(slot: number): boolean {
    return this.#blobs.some(({ blobs }) => blobs.has(slot));
  }

  /** Undefined when its connection is not here. Errors: errno codes of what does not fit. */
  adoptBlob({ slot, layer }: AdoptedLayer): MountedLayer | undefined {
    const connection = this.#blobs.find(({ blobs }) => blobs.has(slot));
    const blob = connection?.blobs.get(slot);
    if (connection === undefined || blob?.layer !== layer.descriptor.digest) return undefined;
    const { server, kept, adopted } = connection;
    server.adoptBlob(blob.name, layer.cache, blob);
    adopted.add(blob.node);
    return { transport: 'kernel', direct: false, retire: retireBlob(server, kept, blob) };
  }

  /** The same for a layer that has a connection of its own; `tree` is the path of its compiled tree. */
  async adoptTree({ slot, layer, tree }: AdoptedLayer & { readonly tree: string }): Promise<MountedLayer | undefined> {
    const [kept, ...others] = this.#connections.take(treeOwner(slot));
    for (const other of others) await other.end();
    if (kept === undefined) return undefined;
    // The kernel knows nodes of this very file.
    const fds = kept.tree === (await fileIdentity(tree)) ? kept.takeFds() : undefined;
    if (fds === undefined) {
      await kept.end();
      return undefined;
    }
    try {
      const server = FuseServer.tree({
        fd: fds.fd,
        tree,
        caches: [layer.cache],
        threads: treeThreads,
        onError: this.#onError,
        adoption: kept.adoption,
        taken: kept.taken,
      });
      kept.follow(server);
      this.#trees.push({ server, kept, mount: undefined });
      return { transport: 'native', direct: false, retire: () => server.stop() };
    } catch (error) {
      closeSync(fds.fd);
      await kept.end();
      throw error;
    }
  }

  /** Serves. What was not adopted is gone: reads of it fail. */
  start(): readonly AdoptedConnection[] {
    const started = [...this.#blobs, ...this.#trees];
    for (const { server } of started) server.start();
    for (const { kept, blobs, adopted } of this.#blobs)
      for (const { node } of blobs.values()) if (!adopted.has(node)) kept.removeBlob(node);
    return started;
  }

  #receive(kept: KeptConnection): BlobsConnection | undefined {
    const fds = kept.takeFds();
    if (fds === undefined) return undefined;
    const server = FuseServer.blobs({
      fd: fds.fd,
      onError: this.#onError,
      adoption: kept.adoption,
      taken: kept.taken,
    });
    kept.follow(server);
    server.skipNodes(kept.nextNode);
    const blobs = new Map<number, BlobRow>();
    for (const blob of kept.blobs()) {
      // Never opened: it was not mounted yet.
      if (blob.mode === 'undecided') kept.removeBlob(blob.node);
      else blobs.set(blob.place, blob);
    }
    const mount = fds.mount === undefined ? undefined : new DetachedMount(fds.mount);
    return { server, kept, mount, blobs, adopted: new Set() };
  }
}

/** What ends the serving of one file. */
export function retireBlob(
  server: FuseServer,
  kept: KeptConnection | undefined,
  { name, node }: { readonly name: string; readonly node: number },
): () => Promise<void> {
  let isServed = true;
  return async () => {
    if (!isServed) return;
    isServed = false;
    server.removeBlob(name);
    kept?.removeBlob(node);
  };
}
