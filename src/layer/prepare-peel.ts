import { mkdir, rm, writeFile } from 'node:fs/promises';
import { writeWhole } from '../util/write-whole.ts';
import type { IndexJobs, TableJob } from './index-job.ts';
import { indexProvenance } from './index-provenance.ts';
import type { LayerPaths } from './layer-paths.ts';
import type { OpenLayerRequest, RemotePeelIndex } from './layer-store.ts';
import { tellTree, treePlace } from './made-tree.ts';

/**
 * Turns the table that an image offers into the layer's index file. Afterwards the layer can be read span by span; its windows come with the
 * spans, or are here already where the node had them as a whole.
 * Errors: ERR_LAYER_INDEX when it is for something else, those of IndexError and TreeError when it is malformed, those of `index.load` and
 * `findWindows`.
 */
export async function prepareFromPeel(
  request: OpenLayerRequest,
  index: RemotePeelIndex,
  { paths, jobs }: { readonly paths: LayerPaths; readonly jobs: IndexJobs },
): Promise<void> {
  const { signal = new AbortController().signal } = request;
  const finding = index.windows === undefined ? undefined : index.findWindows({ signal });
  const making = index.load({ signal }).then((table) => jobs.run(tableJob(request, index, table), signal));
  const [made, frames] = await Promise.all([making, finding]);
  signal.throwIfAborted();
  tellTree(request, made);
  await mkdir(paths.dir, { recursive: true, mode: 0o700 });
  try {
    // Each is verified when it is used, so a torn file does no harm.
    if (frames !== undefined && frames.length > 0) await writeFile(paths.windows, frames, { mode: 0o600 });
    await writeWhole(paths.index, [made.file]);
  } catch (error) {
    await rm(paths.windows, { force: true });
    throw error;
  }
}

function tableJob(request: OpenLayerRequest, index: RemotePeelIndex, table: Uint8Array): TableJob {
  const { mediaType, digest, size } = request.descriptor;
  const { windows, repository: from } = index;
  return {
    kind: 'table',
    table,
    descriptor: { mediaType, digest, size },
    diffId: request.diffId,
    windows: windows && { digest: windows.digest, size: windows.size, from },
    provenance: indexProvenance(request, index),
    tree: treePlace(request),
  };
}
