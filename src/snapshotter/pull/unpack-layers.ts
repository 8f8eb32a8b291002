// Layers to snapshots, bottom to top: what the snapshotter has or makes by itself is neither fetched nor unpacked.
import { setTimeout as delay } from 'node:timers/promises';
import { ImageError } from '../../image/errors.ts';
import type { Descriptor } from '../../oci/descriptor.ts';
import type { Digest } from '../../oci/digest.ts';
import { ContentService } from '../containerd/content.ts';
import { applyLayer } from '../containerd/diff.ts';
import { ContainerdError, isContainerdError } from '../containerd/errors.ts';
import { uniqueName } from '../containerd/leases.ts';
import type { ContainerdSession } from '../containerd/session.ts';
import type { SnapshotService } from '../containerd/snapshots.ts';
import { unpackedLabel } from '../committed-layer.ts';
import type { Mount } from '../gen/containerd/types/mount_pb.ts';
import type { Labels } from '../layer-provider.ts';
import { uncompressedLabel } from './content-labels.ts';
import type { LayerFetcher } from './layer-fetcher.ts';
import { snapshotLabels } from './snapshot-labels.ts';
import type { LayerInImage } from './snapshot-labels.ts';

export interface PulledLayer {
  readonly digest: Digest;
  /** Bytes of the blob. */
  readonly size: number;
  /** `lazy`: made by the snapshotter without the blob. `present`: its snapshot was there before. */
  readonly how: 'lazy' | 'unpacked' | 'present';
  /** Of one that was unpacked: whether the snapshotter did it, or containerd. */
  readonly unpackedBy?: 'peel' | 'containerd' | undefined;
  /** Bytes fetched from the registry for it by this pull, which fetches nothing for what the snapshotter makes. */
  readonly fetched: number;
}

export interface UnpackDeps {
  /** With the lease. */
  readonly session: ContainerdSession;
  readonly snapshots: SnapshotService;
  readonly fetcher: LayerFetcher;
  readonly signal: AbortSignal | undefined;
}

export interface ImageLayers extends Omit<LayerInImage, 'position'> {
  readonly diffIds: readonly Digest[];
}

interface Unpacking {
  readonly layer: Descriptor;
  readonly diffId: Digest;
  readonly chainId: Digest;
  readonly parent: string;
  readonly labels: Labels;
  /** The layers above. */
  readonly above: readonly Descriptor[];
}

/** A snapshotter may say that there is a snapshot and lose it before it is asked. */
const prepareTries = 3;
/** A remote snapshotter may unpack a layer before it answers, which has a limit of its own (`unpack.expiry`). */
const prepareTimeoutMs = 86_400_000;
/** What was begun is waited for that long after an interrupt, to be undone rather than cut off. */
const lingerMs = 5_000;

/** One result per layer. Errors: ContainerdError; ERR_IMAGE_CONTENT for a layer that is not what the config says; those of fetching. */
export async function unpackLayers(deps: UnpackDeps, image: ImageLayers): Promise<PulledLayer[]> {
  const { layers, chainIds, diffIds } = image;
  const done: PulledLayer[] = [];
  for (const [position, layer] of layers.entries()) {
    const [chainId, diffId] = [chainIds[position], diffIds[position]];
    if (chainId === undefined || diffId === undefined) throw new RangeError(`the image has no diffID ${position}`);
    // A snapshotter that makes layers by itself is not raced: only what it leaves is fetched, and when it does.
    const isRemote = done.some(({ how, unpackedBy }) => how === 'lazy' || unpackedBy === 'peel');
    const unpacking = {
      layer,
      diffId,
      chainId,
      parent: chainIds[position - 1] ?? '',
      labels: snapshotLabels({ ...image, position }),
      above: isRemote ? [] : layers.slice(position + 1),
    };
    done.push({ digest: layer.digest, size: layer.size, ...(await unpackLayer(deps, unpacking)) });
  }
  return done;
}

async function unpackLayer(
  deps: UnpackDeps,
  unpacking: Unpacking,
): Promise<Pick<PulledLayer, 'how' | 'unpackedBy' | 'fetched'>> {
  const { snapshots, fetcher, session, signal } = deps;
  const { layer, chainId, labels, above } = unpacking;
  const isKnown = (await snapshots.committed(chainId, { signal })) !== undefined;
  const key = `extract-${uniqueName()} ${chainId}`;
  try {
    // Also for what is known: only this way does the lease get it.
    const prepared = await prepare(deps, key, unpacking);
    if (prepared.kind === 'there') {
      if (isKnown) return { how: 'present', fetched: 0 };
      await fetcher.abandon();
      const isUnpacked = prepared.labels[unpackedLabel] !== undefined;
      return isUnpacked ? { how: 'unpacked', unpackedBy: 'peel', fetched: 0 } : { how: 'lazy', fetched: 0 };
    }
    fetcher.ahead([layer, ...above]);
    const fetched = await fetcher.fetch(layer);
    await apply(deps, unpacking, prepared.mounts);
    await commit(snapshots, key, chainId, labels, signal);
    const content = new ContentService(session);
    await content.setLabels(layer.digest, { [uncompressedLabel]: unpacking.diffId }, { signal });
    return { how: 'unpacked', unpackedBy: 'containerd', fetched };
  } catch (error) {
    await removeSnapshot(snapshots, key);
    throw error;
  }
}

type Prepared =
  | { readonly kind: 'there'; readonly labels: Labels }
  | { readonly kind: 'mounts'; readonly mounts: readonly Mount[] };

async function prepare(
  { snapshots, signal }: UnpackDeps,
  key: string,
  { chainId, parent, labels }: Unpacking,
): Promise<Prepared> {
  for (let tries = 1; ; tries += 1) {
    signal?.throwIfAborted();
    using patience = lingering(signal);
    try {
      const options = { signal: patience.signal, timeoutMs: prepareTimeoutMs };
      const mounts = await snapshots.prepare({ key, parent, labels }, options);
      signal?.throwIfAborted();
      return { kind: 'mounts', mounts };
    } catch (error) {
      signal?.throwIfAborted();
      if (isContainerdError(error, 'ERR_CONTAINERD_UNAVAILABLE')) throw notRunning(error, snapshots.snapshotter);
      // Not found is what the snapshotter said is there.
      if (!isContainerdError(error, 'ERR_CONTAINERD_EXISTS', 'ERR_CONTAINERD_NOT_FOUND')) throw error;
      const labels = await snapshots.committed(chainId, { signal });
      if (labels !== undefined) return { kind: 'there', labels };
      if (tries === prepareTries) throw error;
    }
  }
}

function notRunning(cause: ContainerdError, snapshotter: string): ContainerdError {
  const hint = snapshotter === 'peel' ? 'is peel daemon running?' : `is the snapshotter ${snapshotter} running?`;
  return new ContainerdError(cause.code, `${cause.message} (${hint})`, { cause });
}

async function apply(
  { session, signal }: UnpackDeps,
  { layer, diffId }: Unpacking,
  mounts: readonly Mount[],
): Promise<void> {
  const applied = await applyLayer(session, layer, mounts, { signal });
  if (applied === diffId) return;
  throw new ImageError(
    'ERR_IMAGE_CONTENT',
    `layer ${layer.digest} unpacks to ${applied}, but the image's config says ${diffId}`,
  );
}

/** Somebody else may have been quicker; then theirs is the snapshot. */
async function commit(
  snapshots: SnapshotService,
  key: string,
  name: string,
  labels: Labels,
  signal: AbortSignal | undefined,
): Promise<void> {
  try {
    await snapshots.commit({ name, key, labels }, { signal });
  } catch (error) {
    if (!isContainerdError(error, 'ERR_CONTAINERD_EXISTS')) throw error;
    await removeSnapshot(snapshots, key);
  }
}

/** Never throws: what cannot be removed goes with the lease. */
async function removeSnapshot(snapshots: SnapshotService, key: string): Promise<void> {
  const limit = AbortSignal.timeout(lingerMs);
  while (!limit.aborted) {
    try {
      await snapshots.remove(key, { signal: limit });
      return;
    } catch (error) {
      if (isContainerdError(error, 'ERR_CONTAINERD_UNAVAILABLE')) return;
      // containerd may still be unpacking into it.
      await delay(100);
    }
  }
}

/** Aborts some time after `signal`. */
function lingering(signal: AbortSignal | undefined): { readonly signal: AbortSignal } & Disposable {
  const later = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const onAbort = () => {
    timer = setTimeout(() => later.abort(signal?.reason), lingerMs);
  };
  signal?.addEventListener('abort', onAbort, { once: true });
  return {
    signal: later.signal,
    [Symbol.dispose]: () => {
      signal?.removeEventListener('abort', onAbort);
      clearTimeout(timer);
    },
  };
}
