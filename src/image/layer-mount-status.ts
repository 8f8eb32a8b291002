import type { Digest } from '../oci/digest.ts';
import type { SlotRow } from '../state/slots.ts';
import type { LayerTransport } from './mounted-layer.ts';
import type { MountEntry } from './layer-mounts.ts';

export interface LayerMountStatus {
  readonly slot: number;
  readonly layer: Digest;
  /** `lazy`: bytes come from a registry when they are read; `complete`: all are on the node; `none`: not mounted, see `lastError`. */
  readonly serving: 'lazy' | 'complete' | 'none';
  readonly transport: LayerTransport | undefined;
  /** The kernel reads the layer's file by itself: it needs no process. */
  readonly direct: boolean;
  /** One phrase: why it is served so, e.g. `zTOC sha256:…`. */
  readonly why: string;
  /** Undefined when the layer is not open. */
  readonly spans: number | undefined;
  readonly presentSpans: number;
  /** Bytes of the layer stream, and how many of them are on the node. */
  readonly streamSize: number | undefined;
  readonly presentBytes: number;
  readonly lastError: string | undefined;
}

export function layerMountStatus(row: SlotRow, entry: MountEntry | undefined): LayerMountStatus {
  const layer = entry?.lease?.layer;
  const mounted = entry?.mounted;
  // Of one that turned out wrong nothing is served any more, and its cache cannot be asked.
  const present = layer?.present;
  const complete = mounted?.direct === true || present?.complete === true;
  return {
    slot: row.slot,
    layer: row.layer,
    serving: mounted === undefined ? 'none' : complete ? 'complete' : 'lazy',
    transport: mounted?.transport,
    direct: mounted?.direct === true,
    why: row.reason,
    spans: layer?.spans.count,
    presentSpans: present?.spans ?? 0,
    streamSize: layer?.streamSize,
    presentBytes: present?.bytes ?? 0,
    lastError: layer?.lastFailure ?? row.error,
  };
}
