import type { Logger } from '../../observe/log.ts';
import type { KeptConnection } from '../kept-connection.ts';
import type { LoadedImage } from '../loaded-image.ts';

export type TransportName = 'kernel' | 'native' | 'fuse-native';
export type TransportChoice = 'auto' | TransportName;

export interface MountRequest {
  readonly image: LoadedImage;
  /** Absolute path of an empty directory. */
  readonly dir: string;
  /** Where people will see the tree: `dir`, or the place of an overlay that is about to take the tree over. */
  readonly finalDir: string;
  readonly log: Logger;
  /** Where its connection outlives this process. */
  readonly keep?: (() => KeptConnection) | undefined;
  readonly signal: AbortSignal | undefined;
}

/** A tree that is being served. */
export interface Served {
  /** What else is worth saying about this mount, e.g. that some names could not be carried. */
  readonly warnings: readonly string[];
  /** Settles when nobody can reach the tree any more: it was unmounted, by us or by anybody. Never rejects. */
  readonly closed: Promise<{ readonly reason: string }>;
  /** Requests of the kernel that were answered with an error of ours, ever. */
  errors?(): number;
  /** Ends the serving after the tree was unmounted. Idempotent. */
  stop(): Promise<void>;
  /** Ends the serving of a tree that stays mounted, for the next process where its connection is kept. Default `stop`. */
  leave?(): Promise<void>;
}

/** One way to put an image's tree at a directory. */
export interface Transport {
  readonly name: TransportName;
  /** Undefined when it can work here, else why it cannot, as half a sentence. Cheap enough to ask for every mount. */
  refusal(image: LoadedImage): Promise<string | undefined>;
  /** Resolves once `dir` serves. Errors: ERR_MOUNT_TRANSPORT with the reason; nothing is left mounted then. */
  mount(request: MountRequest): Promise<Served>;
  /**
   * Goes on with what an earlier process mounted at `dir`. Undefined when it does not fit, and has to be mounted anew; the connection is
   * given up then.
   */
  adopt?(request: MountRequest, kept: KeptConnection): Promise<Served | undefined>;
}
