import { LayerError, errorMessage } from './errors.ts';
import { isDiskError } from './disk-error.ts';
import type { IndexJobs } from './index-job.ts';
import type { LayerPaths } from './layer-paths.ts';
import type { OfferedIndex, OpenLayerRequest, RemoteIndex } from './layer-store.ts';

/** The index that the layer can be read by now, or why there is none, as half a sentence. */
export type IndexOutcome = { readonly used: RemoteIndex } | { readonly used: undefined; readonly reason: string };

/**
 * Makes the layer's index file by the first index on offer that can be used, beginning with `first`; each that cannot be is said once.
 * Errors: ERR_LAYER_INDEX when the last one cannot be used either and one is required; those of the disk; the signal's reason.
 */
export async function prepareByIndex(
  request: OpenLayerRequest,
  place: { readonly paths: LayerPaths; readonly jobs: IndexJobs },
  first: OfferedIndex,
): Promise<IndexOutcome> {
  const { signal, indexRequired, onWarning, descriptor } = request;
  // Whoever offers the same again has nothing else.
  const tried = new Set<string>();
  let { index, reason } = first;
  for (let attempt = 1; index !== undefined; attempt += 1) {
    try {
      await prepare(request, index, place);
      return { used: index };
    } catch (error) {
      signal?.throwIfAborted();
      if (isDiskError(error)) throw error;
      tried.add(index.digest);
      reason = `its ${contentName(index)} cannot be used: ${errorMessage(error)}`;
      const message = `layer ${descriptor.digest}: ${reason}`;
      const next = await nextOffer(request, attempt);
      index = next === undefined || tried.has(next.digest) ? undefined : next;
      if (index === undefined && indexRequired) throw new LayerError('ERR_LAYER_INDEX', message, { cause: error });
      const follows =
        index === undefined ? 'it is downloaded whole' : `the index ${index.digest} (${index.format}) is tried next`;
      onWarning(`${message}; ${follows}`);
    }
  }
  return { used: undefined, reason };
}

/** The part of an index that is for one layer. */
export function contentName(index: RemoteIndex): string {
  return index.format === 'peel' ? `peel table ${index.table.digest}` : `zTOC ${index.ztoc.digest}`;
}

/** What there was is said already: that there is nothing else is no error of its own. */
async function nextOffer({ findIndex, signal }: OpenLayerRequest, attempt: number): Promise<RemoteIndex | undefined> {
  try {
    return (await findIndex(attempt)).index;
  } catch {
    signal?.throwIfAborted();
    return undefined;
  }
}

async function prepare(
  request: OpenLayerRequest,
  index: RemoteIndex,
  place: Parameters<typeof prepareByIndex>[1],
): Promise<void> {
  if (index.format === 'peel') {
    const { prepareFromPeel } = await import('./prepare-peel.ts');
    await prepareFromPeel(request, index, place);
  } else {
    const { prepareFromZtoc } = await import('./prepare-ztoc.ts');
    await prepareFromZtoc(request, index, place);
  }
}
