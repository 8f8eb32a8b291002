// What tests read of `peel status --json`.
import type { StatusReport } from '../../src/daemon/status-report.ts';

export interface SeenLayer {
  readonly slot: number;
  readonly image: string;
  readonly layer: string;
  readonly served: string;
}

export interface SeenStatus {
  /** Mounted ones. */
  readonly layers: readonly SeenLayer[];
  /** Layers that were left to containerd, with the reason. */
  readonly deferred: readonly { readonly layer: string; readonly reason: string }[];
  /** Layers that peel unpacked, the same. */
  readonly unpacked: readonly { readonly layer: string; readonly reason: string }[];
  /** By the code of the reason, since the daemon's start. */
  readonly deferrals: Readonly<Record<string, number>>;
}

export function seenStatus({ snapshotter }: StatusReport): SeenStatus {
  const layers: SeenLayer[] = [];
  const deferred: { layer: string; reason: string }[] = [];
  const unpacked: { layer: string; reason: string }[] = [];
  for (const { slot, layer, images, serving, why, unpackedBy } of snapshotter?.layers ?? []) {
    if (slot === undefined) (unpackedBy === 'peel' ? unpacked : deferred).push({ layer, reason: why });
    else layers.push({ slot, image: images[0] ?? '', layer, served: serving });
  }
  return { layers, deferred, unpacked, deferrals: snapshotter?.deferrals ?? {} };
}
