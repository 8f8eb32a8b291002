// A layer that somebody unpacked: what he decoded on the way becomes the layer of the node.
import { mkdir, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { openNodeIndex } from '../index/node-index.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import { syncDirectory } from '../util/sync-directory.ts';
import { adoptData } from './adopt-data.ts';
import type { LayerPaths } from './layer-paths.ts';

export interface WholeLayer {
  readonly descriptor: Descriptor;
  readonly diffId: Digest;
  /** File with the layer stream, checked against the diffID; and its index file. Both are renamed. */
  readonly data: string;
  readonly index: string;
  readonly reason: string;
}

/** The caller holds the build lock and knows that the node has no index of the layer. Errors: as `adoptData`; IndexError; errno codes. */
export async function keepWhole(
  paths: LayerPaths,
  { data, index }: Pick<WholeLayer, 'data' | 'index'>,
  options: { readonly signal: AbortSignal | undefined },
): Promise<void> {
  await mkdir(paths.dir, { recursive: true, mode: 0o700 });
  // What a process left that was killed while it downloaded the layer.
  await Promise.all([paths.building, paths.windows].map((path) => rm(path, { force: true })));
  const opened = await openNodeIndex(index);
  try {
    const { spans, fingerprint } = opened;
    await adoptData(paths, { path: data, spans, fingerprint }, options);
  } finally {
    await opened.close();
  }
  await rename(index, paths.index);
  await syncDirectory(dirname(paths.index));
}
