// containerd's protocol for remote snapshots: a Prepare with the label below asks for a layer by its chain ID. The answer AlreadyExists
// means: a committed snapshot with that label and that parent is there; containerd then fetches and unpacks nothing.
import { errorMessage } from '../layer/errors.ts';
import type { Logger } from '../observe/log.ts';
import { isDigest } from '../oci/digest.ts';
import type { SnapshotRow } from '../state/snapshots.ts';
import { untilAborted } from '../util/until-aborted.ts';
import { committedLayer, isUsable, layerKey, refLabel } from './committed-layer.ts';
import { SnapshotError } from './errors.ts';
import type { Labels, ProvideOutcome } from './layer-provider.ts';
import type { PrepareOutcomes } from './outcomes.ts';
import { committedParent, lowersOf } from './parents.ts';
import { commitUnpacked } from './unpacked-layer.ts';
import type { LayerRequest, UnpackedParts } from './unpacked-layer.ts';

export interface ProvideParts extends UnpackedParts {
  /** How long the caller waits for a layer that nobody unpacks. */
  readonly timeoutMs: number;
  readonly log: Logger;
  readonly outcomes: PrepareOutcomes;
}

export interface ProvideRequest extends LayerRequest {
  readonly namespace: string | undefined;
}

type Deferred = Extract<ProvideOutcome, { kind: 'deferred' }>;
type Served = Extract<ProvideOutcome, { kind: 'served' }>;

/** As often is a layer unpacked that somebody else's snapshot has taken each time. */
const maxRounds = 3;

/** Why containerd has to unpack the layer itself. Errors: ERR_SNAPSHOT_EXISTS when it need not; all other SnapshotErrors. */
export async function provideLayer(parts: ProvideParts, request: ProvideRequest): Promise<Deferred> {
  const { table, outcomes } = parts;
  const { chainId } = request;
  const startedAt = performance.now();
  const parent = committedParent(table, request.parent);
  // One that could not be mounted when the daemon started is made again; one that turned out wrong is unpacked.
  if (isUsable(parts, committedLayer(table, chainId, parent))) {
    outcomes.add('found', startedAt);
    throw alreadyThere(chainId);
  }
  const { outcome, result } = await provided(parts, request, parent);
  outcomes.add(typeof result === 'string' ? result : result.code, startedAt);
  const log = parts.log.child({ chainId, image: outcome.image, layer: outcome.layer });
  if (typeof result === 'string') {
    const reason = outcome.kind === 'unpacked' ? outcome.reason : undefined;
    log.info({ outcome: result, reason }, outcome.kind === 'unpacked' ? 'layer unpacked' : 'layer served');
    throw alreadyThere(chainId);
  }
  log.info({ code: result.code, reason: result.reason }, 'layer left to containerd');
  return result;
}

function alreadyThere(chainId: string): SnapshotError {
  return new SnapshotError('ERR_SNAPSHOT_EXISTS', `layer ${chainId} is there already: nothing to unpack`);
}

async function provided(
  parts: ProvideParts,
  request: ProvideRequest,
  parent: SnapshotRow | undefined,
): Promise<{ outcome: ProvideOutcome; result: 'served' | 'unpacked' | 'found' | Deferred }> {
  for (let round = 1; ; round += 1) {
    const outcome = await ask(parts, request, parent);
    if (outcome.kind === 'deferred') return { outcome, result: outcome };
    if (outcome.kind === 'there') {
      if (isUsable(parts, committedLayer(parts.table, request.chainId, parent))) return { outcome, result: 'found' };
      if (round < maxRounds) continue;
      const reason = 'other snapshots of the layer came and went';
      return { outcome, result: deferred(request.labels, 'error', reason) };
    }
    if (outcome.kind === 'served') return { outcome, result: commitServed(parts, request, outcome) };
    const { image, layer } = outcome;
    const result = await commitUnpacked(parts, request, outcome);
    if (typeof result !== 'string') return { outcome, result: { ...result, image, layer } };
    if (result !== 'taken') return { outcome, result };
    if (round === maxRounds) {
      const reason = `other snapshots took the unpacked layer ${maxRounds} times`;
      return { outcome, result: deferred(request.labels, 'error', reason) };
    }
  }
}

/** Anything that goes wrong leaves the layer to containerd, except that nobody waits for it any more. */
async function ask(
  parts: ProvideParts,
  request: ProvideRequest,
  parent: SnapshotRow | undefined,
): Promise<ProvideOutcome> {
  const { table, layers, timeoutMs, log } = parts;
  const { chainId, labels, namespace } = request;
  if (!isDigest(chainId)) return deferred(labels, 'labels', `label ${refLabel} is not a digest`);
  const below = lowersOf(table, parent)
    .map(({ slot }) => slot)
    .toReversed();
  const patience = new AbortController();
  const timer = setTimeout(() => patience.abort(new DOMException('not ready in time', 'TimeoutError')), timeoutMs);
  const signal = AbortSignal.any([request.signal, patience.signal]);
  const providing = layers.provide({
    chainId,
    labels,
    below,
    namespace,
    signal,
    onUnpacking: () => clearTimeout(timer),
    isThere: () => isUsable(parts, committedLayer(table, chainId, parent)),
  });
  try {
    return await untilAborted(providing, signal);
  } catch (error) {
    if (signal.aborted) releaseLate(providing);
    if (request.signal.aborted) {
      throw new SnapshotError('ERR_SNAPSHOT_CANCELLED', 'the caller went away', { cause: error });
    }
    if (patience.signal.aborted) return deferred(labels, 'timeout', `not ready after ${timeoutMs} ms`);
    log.error({ chainId, error }, 'cannot provide a layer');
    return deferred(labels, 'error', errorMessage(error));
  } finally {
    clearTimeout(timer);
  }
}

/** What comes when nobody waits for it any more. */
function releaseLate(providing: Promise<ProvideOutcome>): void {
  providing.then(
    (outcome) => {
      if (outcome.kind === 'unpacked') outcome.tree.release();
    },
    () => {},
  );
}

/** Image and layer as far as containerd names them. */
function deferred(labels: Labels, code: Deferred['code'], reason: string): Deferred {
  const layer = labels['containerd.io/snapshot/cri.layer-digest'] ?? '';
  return {
    kind: 'deferred',
    code,
    reason,
    image: labels['containerd.io/snapshot/cri.image-ref'],
    layer: isDigest(layer) ? layer : undefined,
  };
}

/** Durable when it returns. `found`: another call was faster. */
function commitServed(parts: ProvideParts, request: LayerRequest, served: Served): 'served' | 'found' | Deferred {
  const { table, layers } = parts;
  const { chainId, labels } = request;
  const { slot, image, layer } = served;
  let unshown: number | undefined = slot;
  try {
    return table.durably(() => {
      const parent = committedParent(table, request.parent);
      const there = committedLayer(table, chainId, parent);
      if (there !== undefined) {
        if (isUsable(parts, there)) return 'found';
        // The same layer by another index: what was made above its lost mount is as it was.
        table.show(there.id, slot);
        unshown = there.slot;
        return 'found';
      }
      const key = layerKey(chainId, parent);
      if (table.get(key) !== undefined) return deferred(labels, 'error', `the name ${key} is taken`);
      table.insert({ key, kind: 'committed', parent: parent?.id, labels, slot, image, layer });
      unshown = undefined;
      return 'served';
    });
  } finally {
    if (unshown !== undefined && !table.isShown(unshown)) layers.released([unshown]);
  }
}
