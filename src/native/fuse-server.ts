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
  /** With it, nothing is served before `start()`. */
  readonly adoption?: Adoption | undefined;
  /** Path of a file that keeps how far requests were taken from the kernel, for whoever adopts the connection. */
  readonly taken?: string | undefined;
}

/** A connection that another process has served, whose fd was kept. */
export interface Adoption {
  /** As `stats().flags` said there; 0 when INIT may not have come. */
  readonly flags: number;
  /**
   * What the other process has left unanswered is sent again by the kernel (Linux 6.9). Where that is not wanted, or not known to the
   * kernel, it is answered with EIO, as far as `taken` tells what it was.
   */
  readonly resend: boolean;
}

/** What the kernel knows of a blob. */
export interface KnownBlob {
  /** `undecided`: it was not opened yet; how it was opened first never changes. */
  readonly mode: 'undecided' | 'plain' | 'passthrough';
  /** Of passthrough, else 0. It belongs to the connection, whoever asked for it. */
  readonly backingId: number;
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
  /** INIT flags that both sides have; 0 before INIT. */
  readonly flags: number;
}

/** What native/src/binding/fuse_server.cpp exports; `handle` is opaque. */
interface Native {
  fuseServerBlobs(
    fd: number,
    threads: number,
    onClosed: OnClosed,
    onError: OnError,
    adoption: Adoption | undefined,
    taken: string | undefined,
  ): object;
  fuseServerTree(
    fd: number,
    threads: number,
    onClosed: OnClosed,
    onError: OnError,
    adoption: Adoption | undefined,
    taken: string | undefined,
    tree: string,
    caches: readonly object[],
  ): object;
  fuseServerAddBlob(handle: object, name: string, cache: object, passthrough: boolean): number;
  fuseServerAdoptBlob(
    handle: object,
    name: string,
    cache: object,
    node: number,
    mode: KnownBlob['mode'],
    backingId: number,
  ): void;
  fuseServerSkipNodes(handle: object, node: number): void;
  fuseServerKnownBlob(handle: object, name: string): KnownBlob;
  fuseServerStart(handle: object): void;
  fuseServerRemoveBlob(handle: object, name: string): void;
  fuseServerStats(handle: object): FuseServerStats;
  fuseServerTryBacking(handle: object, fd: number): string;
  fuseServerStop(handle: object, leave: boolean): void;
}
type OnClosed = (reason: string) => void;
type OnError = (messages: readonly string[]) => void;
type Make = (native: Native, onClosed: OnClosed, onError: OnError, taken: string | undefined) => object;

/**
 * One FUSE connection, served by native threads: no request that the cache or the tree can answer ever waits for
 * JavaScript. It keeps the process alive until it is closed. The serving process must not touch its own mount from the
 * JavaScript thread: a read of a missing span would wait for the very thread that fetches it.
 */
export class FuseServer {
  /**
   * Resolves when the connection has ended, every waiting read is answered and the fd is closed. `reason`: `unmounted`,
   * `aborted`, `stopped`, `left`, or what is wrong with the connection.
   */
  readonly closed: Promise<{ reason: string }>;
  readonly #native = addon() as Native;
  readonly #handle: object;
  #reason: string | undefined;

  private constructor(o: FuseServerOptions, make: Make) {
    const { promise, resolve } = withResolvers<{ reason: string }>();
    this.closed = promise;
    // Held by the native side, and through it `this`: a server that nobody holds goes on serving.
    const onClosed = (reason: string) => {
      this.#reason = reason;
      resolve({ reason });
    };
    const onError = (messages: readonly string[]) => {
      for (const message of messages) o.onError?.(message);
    };
    try {
      this.#handle = make(this.#native, onClosed, onError, o.taken);
    } catch (error) {
      if (o.taken === undefined) throw error;
      // Only an older kernel needs it, and only after a crash.
      this.#handle = make(this.#native, onClosed, onError, undefined);
      o.onError?.(
        `how far requests are taken is not recorded: ${error instanceof Error ? error.message : String(error)}`,
      );
    }
  }

  /** A directory of layer streams, one plain file each, sizes rounded up to 512 with zeros. */
  static blobs(o: FuseServerOptions): FuseServer {
    return new FuseServer(o, (native, closed, error, taken) =>
      native.fuseServerBlobs(o.fd, threadsOf(o), closed, error, o.adoption, taken),
    );
  }

  /**
   * A whole image. Throws with an errno code: what opening the tree gives, EUCLEAN for bytes that are no tree, EINVAL
   * when it has not one device per cache. The fd stays the caller's then.
   */
  static tree(o: TreeServerOptions): FuseServer {
    const caches = o.caches.map(nativeLayerCache);
    return new FuseServer(o, (native, closed, error, taken) =>
      native.fuseServerTree(o.fd, threadsOf(o), closed, error, o.adoption, taken, o.tree, caches),
    );
  }

  /**
   * Adds a file to a blobs server. With `passthrough` (complete layers only) the kernel reads the data file by itself
   * where it can; how a name is served is decided at its first open and never changes. Throws EEXIST for a name that was
   * ever used, EINVAL for passthrough of an incomplete layer. Returns its nodeid, which the connection never had before.
   */
  addBlob(name: string, cache: LayerCache, o: { readonly passthrough: boolean }): number {
    return this.#native.fuseServerAddBlob(this.#handle, name, nativeLayerCache(cache), o.passthrough);
  }

  /** A blob of an adopted connection, as the kernel knows it. Throws EEXIST for a name or nodeid that is there, EINVAL. */
  adoptBlob(name: string, cache: LayerCache, { node, mode, backingId }: KnownBlob & { readonly node: number }): void {
    this.#native.fuseServerAdoptBlob(this.#handle, name, nativeLayerCache(cache), node, mode, backingId);
  }

  /** Nodeids below `node` are never given to anything new: the kernel may remember them. */
  skipNodes(node: number): void {
    this.#native.fuseServerSkipNodes(this.#handle, node);
  }

  /** Throws ENOENT for a name that is not there. */
  knownBlob(name: string): KnownBlob {
    return this.#native.fuseServerKnownBlob(this.#handle, name);
  }

  /** Of an adopted connection, once: serves, and sees to what was left unanswered. Throws EAGAIN when no thread can be started: leave it then. */
  start(): void {
    this.#native.fuseServerStart(this.#handle);
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
    await this.#end({ leave: false });
  }

  /** Stops serving a connection whose fd is kept elsewhere: waiting reads are not answered, and wait for whoever adopts it. Idempotent. */
  async leave(): Promise<void> {
    await this.#end({ leave: true });
  }

  async #end({ leave }: { readonly leave: boolean }): Promise<void> {
    if (this.#reason === undefined) this.#native.fuseServerStop(this.#handle, leave);
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
