// A snapshot below a layer that is being unpacked, as overlayfs looks into it.
import type { LowerNode } from '../tree/lower-node.ts';
import type { ByteString } from '../util/byte-string.ts';
import { directoryNodes } from './directory-nodes.ts';
import type { SnapshotDirectories } from './directories.ts';
import type { LayerProvider } from './layer-provider.ts';
import type { Lower } from './parents.ts';

export interface LowerView {
  /** For messages. */
  readonly name: string;
  /** One answer for each of these clean paths, parents first; undefined where nothing is. Errors: any; the signal's reason. */
  nodesAt(
    paths: readonly ByteString[],
    options: { readonly signal: AbortSignal },
  ): Promise<readonly (LowerNode | undefined)[]>;
}

interface Places {
  readonly directories: SnapshotDirectories;
  readonly layers: LayerProvider;
  readonly userXattr: boolean;
}

/** Of the snapshots below, topmost first. */
export function lowerViews({ directories, layers, userXattr }: Places, lowers: readonly Lower[]): LowerView[] {
  return lowers.map(({ id, slot, layer }, i) => {
    const name = layer ?? `snapshot ${id.toString(36)}`;
    if (slot === undefined) return directoryView(name, directories.of(id).fs, { userXattr });
    // A layer's own directory is never touched: this process serves what is mounted there.
    const below = lowers.slice(i + 1).map((each) => each.slot);
    return { name, nodesAt: (paths, options) => layers.nodesAt(slot, below.toReversed(), paths, options) };
  });
}

export function directoryView(name: string, dir: string, { userXattr }: { readonly userXattr: boolean }): LowerView {
  return { name, nodesAt: (paths, { signal }) => directoryNodes(dir, paths, { userXattr, signal }) };
}
