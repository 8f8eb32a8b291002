// How one layer of an image that is being pulled becomes readable, or why it does not.
import type { Discovery } from '../image/index-finder.ts';
import { isFormatOn } from '../image/index-formats.ts';
import { KnownSource } from '../image/known-source.ts';
import { offeredIndex } from '../image/offered-index.ts';
import type { LayerLease } from '../image/open-layers.ts';
import type { Origin } from '../image/origin.ts';
import type { ResolvedImage } from '../image/resolve.ts';
import type { IndexProvenance } from '../index/node-index-format.ts';
import { LayerError, errorMessage } from '../layer/errors.ts';
import type { OpenLayerRequest } from '../layer/layer-store.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import type { Semaphore } from '../util/semaphore.ts';
import { defer, deferralCode } from './deferral.ts';
import type { Deferral } from './deferral.ts';
import type { OpenOutcome, SessionDeps } from './session-deps.ts';

export interface SessionLayer {
  readonly image: ResolvedImage;
  readonly origin: Origin;
  readonly position: number;
  /** Requests of the image at once. */
  readonly slots: Semaphore;
  /** The index that was named for the image. */
  readonly index: Digest | undefined;
}

interface OpenOptions {
  readonly discover: () => Promise<Discovery>;
  readonly signal: AbortSignal;
}

/** Errors: those of opening a layer. */
export async function openSessionLayer(
  deps: SessionDeps,
  where: SessionLayer,
  { discover, signal }: OpenOptions,
): Promise<OpenOutcome> {
  const request = requestOf(deps, where, signal);
  if ('kind' in request) return request;
  const { origin } = where;
  const { descriptor, diffId } = request;
  const { digest, size } = descriptor;
  const known = deps.state.layers.get(digest);
  if (known !== undefined && known.suspect === undefined && known.diffId !== diffId)
    return otherContent(digest, known.diffId, diffId);
  if (known?.suspect === undefined) {
    const ready = await deps.open.acquire(digest, () => deps.store.openIfReady(request));
    const isSame = ready?.layer.diffId === diffId;
    if (ready !== undefined && isSame && isServable(deps, where, ready)) return { kind: 'open', lease: ready };
    await ready?.release();
  }
  const discovery = await discover();
  if (discovery.error !== undefined) return defer(deferralCode(discovery.error), discovery.reason);
  if (discovery.found === undefined) return defer('no_index', [discovery.reason, ...discovery.warnings].join('; '));
  const findIndex = (attempt: number) => offeredIndex(deps, origin, descriptor, discovery, attempt);
  const { index, reason } = await findIndex(0);
  if (index === undefined) return await openWhole(deps, where, request, reason);
  try {
    return await openBy(deps, where, { ...request, findIndex, indexRequired: true });
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof LayerError) || error.code !== 'ERR_LAYER_INDEX') throw error;
    const code = deferralCode(error);
    // A registry that is ill would not give the whole layer either.
    if (code !== 'error') return defer(code, errorMessage(error));
    if (size <= deps.wholeLayerLimit)
      deps.log.warn({ layer: digest }, `${errorMessage(error)}; it is downloaded whole`);
    return await openWhole(deps, where, request, errorMessage(error));
  }
}

/** The layer where all of it is on the node and a snapshot shows it already; undefined otherwise. Errors: those of opening a layer. */
export async function openShownLayer(
  deps: SessionDeps,
  where: SessionLayer,
  { signal }: Pick<OpenOptions, 'signal'>,
): Promise<LayerLease | undefined> {
  const request = requestOf(deps, where, signal);
  if ('kind' in request) return undefined;
  const { digest } = request.descriptor;
  const { slots, layers } = deps.state;
  const known = layers.get(digest);
  const isShown = slots.byLayer(digest).some(({ slot }) => slots.isShown(slot));
  if (!isShown || known === undefined || known.suspect !== undefined || known.diffId !== request.diffId)
    return undefined;
  const lease = await deps.open.acquire(digest, () => deps.store.openIfReady(request));
  if (lease?.layer.complete === true && lease.layer.diffId === request.diffId) return lease;
  await lease?.release();
  return undefined;
}

function requestOf(deps: SessionDeps, where: SessionLayer, signal: AbortSignal): OpenLayerRequest | Deferral {
  const { image, position, slots } = where;
  const descriptor = image.manifest.layers[position];
  const diffId = image.diffIds[position];
  if (descriptor === undefined || diffId === undefined)
    return defer('error', `${image.reference} has no layer ${position + 1}`);
  return {
    descriptor,
    diffId,
    source: knownSource(deps, descriptor),
    findIndex: async () => ({ index: undefined, reason: 'not asked for' }),
    accepts: (index) => isAllowed(deps, where, index),
    // Only the lowest is shown with nothing below it.
    tree: { base: position === 0, userXattr: deps.userXattr, onMade: deps.onTree },
    slots,
    signal,
    onWarning: (warning) => deps.log.warn({ layer: descriptor.digest }, warning),
  };
}

/** The blob, from wherever it is known to be. */
export function knownSource(
  { state, openOrigin }: Pick<SessionDeps, 'state' | 'openOrigin'>,
  descriptor: Descriptor,
): KnownSource {
  return new KnownSource({ sources: state.layerSources, openOrigin }, descriptor);
}

async function openWhole(
  deps: SessionDeps,
  where: SessionLayer,
  request: OpenLayerRequest,
  reason: string,
): Promise<OpenOutcome> {
  const { size } = request.descriptor;
  const limit = deps.wholeLayerLimit;
  if (size > limit)
    return defer('no_index', `${reason}; of ${size} bytes, it is above snapshotter.whole_layer_limit (${limit})`);
  return await openBy(deps, where, { ...request, findIndex: async () => ({ index: undefined, reason }) });
}

async function openBy(deps: SessionDeps, where: SessionLayer, request: OpenLayerRequest): Promise<OpenOutcome> {
  const { digest } = request.descriptor;
  const lease = await deps.open.acquire(digest, () => deps.store.open(request));
  if (lease === undefined) return defer('error', `layer ${digest} could not be opened`);
  const suspect = deps.state.layers.get(digest)?.suspect;
  const { diffId } = lease.layer;
  const isSame = diffId === request.diffId;
  if (suspect === undefined && isSame && isServable(deps, where, lease)) return { kind: 'open', lease };
  await lease.release();
  if (!isSame) return otherContent(digest, diffId, request.diffId);
  if (suspect !== undefined) return defer('error', `layer ${digest} is in use and cannot be trusted: ${suspect}`);
  return defer('formats', `layer ${digest} is in use by an index whose format is switched off (index.formats)`);
}

/** Its chain ID would stand for content that it has not got, also for images that are honest. containerd finds out who is right. */
function otherContent(digest: Digest, known: Digest, told: Digest): OpenOutcome {
  return defer(
    'error',
    `layer ${digest} has the diffID ${told} by this image, and ${known} by another one on this node`,
  );
}

function isServable(deps: SessionDeps, where: SessionLayer, { layer }: LayerLease): boolean {
  const { indexFormat, indexDigest } = layer.row;
  return layer.complete || isAllowed(deps, where, { format: indexFormat, indexDigest });
}

/** What was named for the image needs no leave. */
function isAllowed(
  { formats }: SessionDeps,
  where: SessionLayer,
  index: Pick<IndexProvenance, 'format' | 'indexDigest'>,
): boolean {
  return (where.index !== undefined && index.indexDigest === where.index) || isFormatOn(formats, index.format);
}
