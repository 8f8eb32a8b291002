import { mkdir } from 'node:fs/promises';
import { writeWhole } from '../util/write-whole.ts';
import type { IndexJobs } from './index-job.ts';
import { indexProvenance } from './index-provenance.ts';
import type { LayerPaths } from './layer-paths.ts';
import type { OpenLayerRequest, RemoteZtoc } from './layer-store.ts';
import { tellTree, treePlace } from './made-tree.ts';

/**
 * Turns the zTOC that an image offers into the layer's index file. Afterwards the layer can be read span by span.
 * Errors: ERR_LAYER_INDEX when it is for something else, those of IndexError when it is malformed, those of `index.load`.
 */
export async function prepareFromZtoc(
  request: OpenLayerRequest,
  index: RemoteZtoc,
  { paths, jobs }: { readonly paths: LayerPaths; readonly jobs: IndexJobs },
): Promise<void> {
  const { descriptor, diffId, signal = new AbortController().signal } = request;
  const { mediaType, digest, size } = descriptor;
  const ztoc = await index.load({ signal });
  const provenance = indexProvenance(request, index);
  const tree = treePlace(request);
  const made = await jobs.run(
    { kind: 'ztoc', ztoc, descriptor: { mediaType, digest, size }, diffId, provenance, tree },
    signal,
  );
  signal.throwIfAborted();
  tellTree(request, made);
  await mkdir(paths.dir, { recursive: true, mode: 0o700 });
  await writeWhole(paths.index, [made.file]);
}
