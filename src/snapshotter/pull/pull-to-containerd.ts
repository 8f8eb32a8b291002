// An image into containerd as its own clients pull it, with what a remote snapshotter needs to mount layers that nobody downloads.
import { setMaxListeners } from 'node:events';
import type { OpenOrigin } from '../../image/origin.ts';
import { imageErrorFrom } from '../../image/registry-errors.ts';
import { errorMessage } from '../../layer/errors.ts';
import type { ProgressSink } from '../../observe/progress.ts';
import type { Digest } from '../../oci/digest.ts';
import type { Platform } from '../../oci/platform.ts';
import type { RegistryReference } from '../../oci/reference.ts';
import { RegistryError } from '../../registry/errors.ts';
import { ContentService } from '../containerd/content.ts';
import { ContainerdError, isContainerdError } from '../containerd/errors.ts';
import { ImageService } from '../containerd/images.ts';
import { LeaseService } from '../containerd/leases.ts';
import { ContainerdSession } from '../containerd/session.ts';
import { SnapshotService } from '../containerd/snapshots.ts';
import { writeContent } from '../containerd/write-content.ts';
import type { Labels } from '../layer-provider.ts';
import { chainIds } from '../../oci/chain-id.ts';
import { indexLabels, manifestLabels, snapshotLabel, sourceLabel } from './content-labels.ts';
import { LayerFetcher } from './layer-fetcher.ts';
import { resolveForPull } from './resolve-for-pull.ts';
import type { ImageToPull, Stored } from './resolve-for-pull.ts';
import { unpackLayers } from './unpack-layers.ts';
import type { PulledLayer } from './unpack-layers.ts';

export interface PullDeps {
  readonly openOrigin: OpenOrigin;
  /** Of containerd's socket. */
  readonly address: string;
}

export interface PullOptions {
  readonly reference: RegistryReference;
  /** Default that of this machine. */
  readonly platform?: Platform | undefined;
  readonly namespace: string;
  readonly snapshotter: string;
  /** The SOCI index that the snapshotter shall use. */
  readonly indexDigest?: Digest | undefined;
  readonly signal?: AbortSignal | undefined;
  /** The registry has shown the image, and nobody was asked for a layer yet. */
  readonly onResolved?: (() => Promise<void>) | undefined;
  readonly onProgress?: ProgressSink | undefined;
  /** Something that is not as it should be, and does no harm to the image. */
  readonly onWarning?: ((message: string) => void) | undefined;
}

export interface PulledImage {
  /** Of the image in containerd: the reference in full. */
  readonly name: string;
  /** Of what the name stands for: the index, or the manifest. */
  readonly target: Digest;
  readonly manifest: Digest;
  /** Lowest first. */
  readonly layers: readonly PulledLayer[];
}

const leaseLifetimeMs = 86_400_000;
const leaseDeleteTimeoutMs = 10_000;

/**
 * Whatever happens, the lease is gone at the end; after a failure or an interrupt nothing keeps what was brought so far. Errors: ImageError,
 * RegistryError, ContainerdError, the signal's reason.
 */
export async function pullToContainerd(deps: PullDeps, options: PullOptions): Promise<PulledImage> {
  const { namespace, signal, snapshotter, onWarning = () => {} } = options;
  // Every call listens to it.
  if (signal !== undefined) setMaxListeners(0, signal);
  const session = await ContainerdSession.open({ address: deps.address, namespace }, { signal });
  try {
    await checkSnapshotter(new SnapshotService(session, snapshotter), signal);
    const image = await resolveForPull({ session, openOrigin: deps.openOrigin }, options.reference, {
      platform: options.platform,
      signal,
    });
    await options.onResolved?.();
    const leases = new LeaseService(session);
    const lease = await leases.create(leaseLifetimeMs, { signal });
    const leased = session.withLease(lease);
    try {
      return await pullUnderLease(leased, image, options);
    } finally {
      leased.close();
      await leases.delete(lease, { timeoutMs: leaseDeleteTimeoutMs }).catch((error: unknown) => {
        onWarning(`a lease stays for a day: ${errorMessage(error)}`);
      });
    }
  } finally {
    session.close();
  }
}

async function pullUnderLease(
  session: ContainerdSession,
  image: ImageToPull,
  { snapshotter, indexDigest, signal, onProgress = () => {}, reference }: PullOptions,
): Promise<PulledImage> {
  const { name, top, index, manifest, config, origin, diffIds } = image;
  const source = (existing: Labels) => sourceLabel(existing, reference.host, reference.repository);
  const store = async (kind: string, content: Stored, labels: Labels) =>
    await writeSmall(session, kind, content, (existing) => ({ ...labels, ...source(existing) }), signal);
  await store('config', config, {});
  await store('manifest', manifest, manifestLabels(manifest.document));
  if (index !== undefined) await store('index', top, indexLabels(index));
  const fetcher = new LayerFetcher({ session, origin, labels: source, signal, onProgress });
  const snapshots = new SnapshotService(session, snapshotter);
  const chain = chainIds(diffIds);
  let layers;
  try {
    layers = await unpackLayers(
      { session, snapshots, fetcher, signal },
      {
        reference: name,
        manifest: manifest.descriptor.digest,
        layers: manifest.document.layers,
        chainIds: chain,
        diffIds,
        index: indexDigest,
      },
    );
  } catch (error) {
    signal?.throwIfAborted();
    throw error instanceof RegistryError ? imageErrorFrom(error, name) : error;
  } finally {
    await fetcher.close();
  }
  const topChain = chain.at(-1);
  if (topChain !== undefined)
    await new ContentService(session).setLabels(config.descriptor.digest, snapshotLabel(snapshotter, topChain), {
      signal,
    });
  await new ImageService(session).put(name, top.descriptor, { signal });
  return { name, target: top.descriptor.digest, manifest: manifest.descriptor.digest, layers };
}

async function writeSmall(
  session: ContainerdSession,
  kind: string,
  { descriptor, bytes }: Stored,
  labels: (existing: Labels) => Labels,
  signal: AbortSignal | undefined,
): Promise<void> {
  await writeContent(session, {
    ref: `${kind}-${descriptor.digest}`,
    digest: descriptor.digest,
    size: bytes.length,
    labels,
    signal,
    open: (offset) => Promise.resolve({ body: [bytes.subarray(offset)], close: () => {} }),
  });
}

/** Before anything is downloaded for nothing. */
async function checkSnapshotter(snapshots: SnapshotService, signal: AbortSignal | undefined): Promise<void> {
  try {
    await snapshots.committed('peel-pull-asks', { signal });
  } catch (error) {
    if (!isContainerdError(error, 'ERR_CONTAINERD_ARGUMENT')) throw error;
    const hint = "register it in containerd's config.toml as a proxy plugin, or choose another with --snapshotter";
    throw new ContainerdError(error.code, `${error.message} (${hint})`, { cause: error });
  }
}
