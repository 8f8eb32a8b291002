import type { ScrubStats } from '../fsck/scrub.ts';
import type { CacheKeeper } from '../image/cache-keeper.ts';
import type { LayerGauges } from '../observe/layer-metrics.ts';
import type { DaemonMetrics } from '../observe/metrics.ts';
import type { DaemonMounts } from './daemon-mounts.ts';
import type { Node } from './node.ts';
import type { SnapshotterPart } from './snapshotter-part.ts';
import type { Unpacking } from './unpacking.ts';

export interface ObservedDaemon {
  readonly mounts: DaemonMounts;
  readonly node: Node;
  readonly snapshotter: SnapshotterPart | undefined;
  readonly unpacking: Unpacking;
  readonly keeper: CacheKeeper;
  readonly scrub: () => ScrubStats | undefined;
}

/** From now on the metrics say what these are at the moment when they are read. */
export function observeDaemon(metrics: DaemonMetrics, daemon: ObservedDaemon): void {
  const { mounts, snapshotter, unpacking } = daemon;
  metrics.layers.observe(() => layerGauges(daemon));
  metrics.observe(() => {
    const found = snapshotter?.gauges();
    return {
      snapshots: found?.snapshots ?? {},
      layers: found?.layers ?? {},
      presentBytes: mounts.presentBytes() + (found?.presentBytes ?? 0),
      mounts: mounts.counts(),
      fuseErrors: mounts.fuseErrors() + (found?.fuseErrors ?? 0),
      ...unpacking.gauges(),
    };
  });
}

function layerGauges({ node, keeper, scrub }: ObservedDaemon): LayerGauges {
  const { fetchedBytes, usedBytes, filling } = node.laziness.lazy.stats();
  const { usedBytes: bytes, limitBytes, evictedBytes } = keeper.stats();
  return {
    readAhead: { fetchedBytesTotal: fetchedBytes, usedBytesTotal: usedBytes },
    fillLayers: filling,
    evictedBytesTotal: evictedBytes,
    scrub: scrub(),
    cache: bytes === undefined || limitBytes === undefined ? undefined : { bytes, limitBytes },
    links: node.links(),
    endpoints: node.endpoints(),
  };
}
