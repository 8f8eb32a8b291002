import type { OpenLayerRequest } from '../layer/layer-store.ts';
import { fetchSlots } from '../layer/permits.ts';
import type { Logger } from '../observe/log.ts';
import type { LayerRow } from '../state/layers.ts';
import { KnownSource } from './known-source.ts';
import type { KnownSourceDeps } from './known-source.ts';

export interface KnownLayerDeps extends Pick<KnownSourceDeps, 'sources' | 'openOrigin'> {
  readonly log: Logger;
  /** Requests for the layer at once. */
  readonly downloads: number;
}

/** A layer as it lies on the node, whatever images it is in: what is missing comes from where it is known to be. Making it asks nobody. */
export function knownLayerRequest(
  { sources, openOrigin, log, downloads }: KnownLayerDeps,
  known: Pick<LayerRow, 'mediaType' | 'digest' | 'size' | 'diffId'>,
): OpenLayerRequest {
  const descriptor = { mediaType: known.mediaType, digest: known.digest, size: known.size };
  return {
    descriptor,
    diffId: known.diffId,
    source: new KnownSource({ sources, openOrigin }, descriptor),
    findIndex: async () => ({ index: undefined, reason: 'not asked for a layer that is known' }),
    slots: fetchSlots(downloads),
    onWarning: (warning) => log.warn({ layer: known.digest }, warning),
  };
}
