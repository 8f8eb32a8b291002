import { setTimeout as delay } from 'node:timers/promises';
import type { SpanTable } from '../index/layer-index.ts';
import { LayerCache } from '../native/layer-cache.ts';
import { LayerError } from './errors.ts';
import type { LayerPaths } from './layer-paths.ts';

const maxRounds = 20;
const pauseMs = 100;

export interface WholeStream {
  /** File with the whole stream, checked against the diffID, on the filesystem of the layers. It is renamed. */
  readonly path: string;
  readonly spans: Pick<SpanTable, 'count' | 'streamSize'> & { readonly streamStarts: Float64Array };
  /** Of the index file that goes with it. */
  readonly fingerprint: Uint8Array;
}

/**
 * Makes a whole stream the layer's block cache, complete from the start. The caller holds the build lock, and puts the index file in its
 * place afterwards: only that makes the layer count. Errors: ERR_LAYER_BUSY when the layer is in use with another index; errno codes.
 */
export async function adoptData(
  paths: LayerPaths,
  { path, spans, fingerprint }: WholeStream,
  options: { readonly signal: AbortSignal | undefined },
): Promise<void> {
  const cache = {
    dir: paths.dir,
    livePath: paths.live,
    streamSize: spans.streamSize,
    // A cache has at least one span; that of an empty stream is empty.
    spanStarts: spans.count > 0 ? spans.streamStarts : new Float64Array(2),
    fingerprint,
  };
  // Somebody may be about to find out that the index he has opened this layer by is gone.
  for (let round = 0; !(await LayerCache.adopt(cache, path, { complete: true })); round += 1) {
    if (round === maxRounds) throw new LayerError('ERR_LAYER_BUSY', `${paths.dir} is in use with another index`);
    await delay(pauseMs, undefined, { signal: options.signal });
  }
}
