import { mkdir } from 'node:fs/promises';
import { writeNodeIndex } from '../index/node-index-writer.ts';
import { readZtoc } from '../index/ztoc-reader.ts';
import { LayerError } from './errors.ts';
import { indexProvenance } from './index-provenance.ts';
import type { LayerPaths } from './layer-paths.ts';
import type { OpenLayerRequest, RemoteZtoc } from './layer-store.ts';

/**
 * Turns the zTOC that an image offers into the layer's index file. Afterwards the layer can be read span by span.
 * Errors: ERR_LAYER_INDEX when it is for something else, IndexError when it is malformed, those of `index.load`.
 */
export async function prepareFromZtoc(request: OpenLayerRequest, index: RemoteZtoc, paths: LayerPaths): Promise<void> {
  const { descriptor, signal } = request;
  const ztoc = readZtoc(await index.load({ signal }), { blobSize: descriptor.size });
  const gzip = descriptor.mediaType.endsWith('gzip');
  if ((ztoc.compression === 'gzip') !== gzip) {
    throw new LayerError(
      'ERR_LAYER_INDEX',
      `it is for compression ${ztoc.compression}, but the layer is ${descriptor.mediaType}`,
    );
  }
  await mkdir(paths.dir, { recursive: true, mode: 0o700 });
  const provenance = indexProvenance(request, index);
  await writeNodeIndex(paths.index, ztoc, provenance, { signal });
}
