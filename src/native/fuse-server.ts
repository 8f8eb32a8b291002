import { availableParallelism } from 'node:os';
import { addon } from './addon.ts';
import { type LayerCache, nativeLayerCache } from './layer-cache.ts';

export interface FuseServerOptions {
  /** An open /dev/fuse that a mount uses or will use. The server owns it and closes it when it ends. */
  readonly fd: number;
  /** Threads that answer requests; default: one per processor, 2 to 8. */
  readonly threads?: number | undefined;
  /** One sentence for each request answered with EIO or EUCLEAN; bursts are cut. `stats().errors` counts all. */
  readonly onError?: ((message: string) => void) | undefined;
}

export interface TreeServerOptions extends FuseServerOptions {
  /** Path of the image's tree.erofs. */
  readonly tree: string;
  /** The layers in the order of the image's device table. */
  readonly caches: readonly LayerCache[];
}

export interface FuseServerStats {
  readonly lookups: number;
  readonly reads: number;
  readonly readBytes: number;
  /** Reads that had to wait for a span, ever. */
  readonly parked: number;
  /** Reads that wait now. */
  readonly waiting: number;
  /** Requests answered with EIO or EUCLEAN, or with what a failed span was failed with. */
  readonly errors: number;
  /** Whether the kernel agreed to passthrough (blobs only). */
  readonly passthrough: boolean;
}

/** What native/src/binding/fuse_server.cpp exports; `handle` is opaque. */
interface Native {
  fuseServerBlobs(fd: number, threads: number, onClosed: OnClosed, onError: OnError): object;
  fuseServerTree(
    fd: number,
    threads: number,
    onClosed: OnClosed,
    onError: OnError,
    tree: string,
    caches: readonly object[],
  ): object;
  fuseServerAddBlob(handle: object, name: string, cache: object, passthrough: boolean): void;
  fuseServerRemoveBlob(handle: object, name: string): void;
  fuseServerStats(handle: object): FuseServerStats;
  fuseServerTryBacking(handle: object, fd: number): string;
  fuseServerStop(handle: object): void;
}
type OnClosed = (reason: string) => void;
type OnError = (messages: readonly string[]) => void;

/**
 * One FUSE connection, served by native threads: no request that the cache or the tree can answer ever waits for
 * JavaScript. It keeps the process alive until it is closed. The serving process must not touch its own mount from the
 * JavaScript thread: a read of a missing span would wait for the very thread that fetches it.
 */
export class FuseServer {
  /**
   * Resolves when the connection has ended, every waiting read is answered and the fd is closed. `reason`: `unmounted`,
   * `aborted`, `stopped`, or what is wrong with the connection.
   */
  readonly closed: Promise<{ reason: string }>;
  readonly #native = addon() as Native;
  readonly #handle: object;
  #reason: string | undefined;

  private constructor(o: FuseServerOptions, make: (native: Native, onClosed: OnClosed, onError: OnError) => object) {
    const { promise, resolve } = withResolvers<{ reason: string }>();
    this.closed = promise;
    this.#handle = make(
      this.#native,
      // Held by the native side, and through it `this`: a server that nobody holds goes on serving.
      (reason) => {
        this.#reason = reason;
        resolve({ reason });
      },
      (messages) => {
        for (const message of messages) o.onError?.(message);
      },
    );
  }

  /** A directory of layer streams, one plain file each, sizes rounded up to 512 with zeros. */
  static blobs(o: FuseServerOptions): FuseServer {
    return new FuseServer(o, (native, closed, error) => native.fuseServerBlobs(o.fd, threadsOf(o), closed, error));
  }

  /**
   * A whole image. Throws with an errno code: what opening the tree gives, EUCLEAN for bytes that are no tree, EINVAL
   * when it has not one device per cache. The fd stays the caller's then.
   */
  static tree(o: TreeServerOptions): FuseServer {
    const caches = o.caches.map(nativeLayerCache);
    return new FuseServer(o, (native, closed, error) =>
      native.fuseServerTree(o.fd, threadsOf(o), closed, error, o.tree, caches),
    );
  }

  /**
   * Adds a file to a blobs server. With `passthrough` (complete layers only) the kernel reads the data file by itself
   * where it can; how a name is served is decided at its first open and never changes. Throws EEXIST for a name that was
   * ever used, EINVAL for passthrough of an incomplete layer.
   */
  addBlob(name: string, cache: LayerCache, o: { readonly passthrough: boolean }): void {
    this.#native.fuseServerAddBlob(this.#handle, name, nativeLayerCache(cache), o.passthrough);
  }

  /**
   * Takes a file away: its name answers ENOENT from now on, a file that is still open ESTALE, and nothing here holds the cache
   * any more once the reads under way are done. Throws ENOENT for a name that is not there.
   */
  removeBlob(name: string): void {
    this.#native.fuseServerRemoveBlob(this.#handle, name);
  }

  stats(): FuseServerStats {
    return this.#native.fuseServerStats(this.#handle);
  }

  /**
   * Whether the kernel would take the open file for passthrough: undefined, or the name of an errno (EOPNOTSUPP where it
   * does not know passthrough, EPERM without CAP_SYS_ADMIN, ELOOP on a stacked filesystem). After the first request only.
   */
  tryPassthrough(fd: number): string | undefined {
    return this.#native.fuseServerTryBacking(this.#handle, fd) || undefined;
  }

  /** Stops serving: waiting reads get ENOTCONN, as does every later access to the mount. Idempotent. */
  async stop(): Promise<void> {
    if (this.#reason === undefined) this.#native.fuseServerStop(this.#handle);
    await this.closed;
  }
}

function threadsOf(o: FuseServerOptions): number {
  return o.threads ?? Math.min(8, Math.max(2, availableParallelism()));
}

function withResolvers<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve: (value: T) => void = () => {};
  const promise = new Promise<T>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}
