// The tree that is made together with a layer's index file, whose entries are at hand then.
import type { Digest } from '../oci/digest.ts';
import type { CompiledTree, PreparedIndex, TreePlace } from './index-job.ts';
import type { OpenLayerRequest } from './layer-store.ts';

export interface MadeTree extends TreePlace {
  readonly digest: Digest;
  /** 32 bytes that stand for the layer's index file, which is about to be written. */
  readonly fingerprint: Uint8Array;
  readonly tree: CompiledTree;
}

/** Asks for the layer's tree, too, when the layer's index has to be made. */
export interface TreeWish extends TreePlace {
  /** At most once; not for a layer whose tree depends on those below. Never throws. */
  readonly onMade: (made: MadeTree) => void;
}

export function treePlace({ tree }: OpenLayerRequest): TreePlace | undefined {
  return tree && { base: tree.base, userXattr: tree.userXattr };
}

export function tellTree({ tree: wish, descriptor }: OpenLayerRequest, { fingerprint, tree }: PreparedIndex): void {
  if (wish === undefined || tree === undefined) return;
  const { base, userXattr } = wish;
  wish.onMade({ digest: descriptor.digest, fingerprint, tree, base, userXattr });
}
