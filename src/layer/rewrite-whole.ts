// A layer whose spans cannot be fetched one by one: downloaded once more, and what is missing of it written where it was.
import { open, rm } from 'node:fs/promises';
import { LayerCache } from '../native/layer-cache.ts';
import type { NodeIndex } from '../index/node-index.ts';
import { tryBuildLock } from './build-lock.ts';
import { LayerError } from './errors.ts';
import type { LayerPaths } from './layer-paths.ts';
import { downloadWhole } from './prepare-whole.ts';
import type { WholeRequest } from './prepare-whole.ts';

/**
 * Brings the spans that are not present, for whoever reads the layer's file, and marks it complete again. Errors: ERR_LAYER_BUSY when
 * somebody makes the layer; IndexError when the blob is not what it should be; those of the source; errno codes; the signal's reason.
 */
export async function rewriteWhole(
  request: WholeRequest,
  paths: LayerPaths,
  { index, cache }: { readonly index: Pick<NodeIndex, 'spans'>; readonly cache: LayerCache },
): Promise<void> {
  const done = await tryBuildLock(paths, async () => {
    const stream = await open(paths.building, 'w+', 0o600);
    try {
      await downloadWhole(request, stream.fd);
      for (let span = 0; span < index.spans.count; span += 1) {
        request.signal?.throwIfAborted();
        if (cache.isPresent(span)) continue;
        const { streamStart, streamEnd } = index.spans.span(span);
        const data = Buffer.alloc(streamEnd - streamStart);
        const { bytesRead } = await stream.read(data, 0, data.length, streamStart);
        // What is left of the buffer would be stored as zeros.
        if (bytesRead !== data.length)
          throw new LayerError('ERR_LAYER_DISK', `${paths.building} gave ${bytesRead} of ${data.length} bytes`);
        const raw = { decoder: 'stored', bits: 0, window: undefined, sha256: undefined, openEnded: false } as const;
        await cache.decode({ span, data, ...raw });
      }
      await cache.markComplete();
    } finally {
      await stream.close();
      await rm(paths.building, { force: true });
    }
    return true;
  });
  if (done === undefined) throw new LayerError('ERR_LAYER_BUSY', `somebody else makes the layer in ${paths.dir}`);
}
