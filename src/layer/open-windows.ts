import type { NodeIndex } from '../index/node-index.ts';
import { peelWindowsType } from '../index/peel-names.ts';
import type { Logger } from '../observe/log.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { otherBlob } from './blob-source.ts';
import type { BlobSource } from './blob-source.ts';
import type { LayerPaths } from './layer-paths.ts';
import type { Link } from './link.ts';
import { WindowStore } from './window-store.ts';

export interface OpenWindowsInit {
  readonly index: Pick<NodeIndex, 'windows' | 'useWindows'>;
  readonly paths: Pick<LayerPaths, 'windows'>;
  /** Of the layer. */
  readonly source: BlobSource;
  readonly link: Link;
  readonly log: Logger;
  readonly readDeadlineMs: number;
}

/** Gives an index whose windows are elsewhere what fetches them; undefined when it has them itself. The caller closes it. */
export function openWindows({
  index,
  paths,
  source,
  link,
  log,
  readDeadlineMs,
}: OpenWindowsInit): WindowStore | undefined {
  const { windows } = index;
  if (windows === undefined) return undefined;
  const descriptor: Descriptor = { mediaType: peelWindowsType, digest: windows.digest, size: windows.size };
  const store = new WindowStore({
    path: paths.windows,
    windows,
    source: otherBlob(source, descriptor, windows.from),
    link,
    log,
    stallMs: readDeadlineMs / 3,
  });
  index.useWindows(store);
  return store;
}
