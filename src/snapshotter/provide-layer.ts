// containerd's protocol for remote snapshots: a Prepare with the label below asks for a layer by its chain ID. The answer AlreadyExists
// means: a committed snapshot with that label and that parent is there; containerd then fetches and unpacks nothing.
import { errorMessage } from '../layer/errors.ts';
import type { Logger } from '../observe/log.ts';
import { isDigest } from '../oci/digest.ts';
import type { SnapshotRow, SnapshotTable } from '../state/snapshots.ts';
import { untilAborted } from '../util/until-aborted.ts';
import type { SnapshotRequest } from './create-snapshot.ts';
import { SnapshotError } from './errors.ts';
import type { LayerProvider, Labels, ProvideOutcome } from './layer-provider.ts';
import type { PrepareOutcomes } from './outcomes.ts';
import { committedParent, lowersOf } from './parents.ts';

export const refLabel = 'containerd.io/snapshot.ref';

export interface ProvideParts {
  readonly table: SnapshotTable;
  readonly layers: LayerProvider;
  readonly timeoutMs: number;
  readonly log: Logger;
  readonly outcomes: PrepareOutcomes;
}

type Deferral = Extract<ProvideOutcome, { kind: 'deferred' }>;
type Served = Extract<ProvideOutcome, { kind: 'served' }>;

/** Why containerd has to unpack the layer itself. Errors: ERR_SNAPSHOT_EXISTS when it need not; all other SnapshotErrors. */
export async function provideLayer(
  parts: ProvideParts,
  request: SnapshotRequest & { readonly chainId: string; readonly signal: AbortSignal },
): Promise<Deferral> {
  const { table, outcomes } = parts;
  const { chainId } = request;
  const startedAt = performance.now();
  const parent = committedParent(table, request.parent);
  const committed = committedLayer(table, chainId, parent);
  // One that could not be mounted when the daemon started is made again; one that turned out wrong is unpacked.
  if (committed !== undefined && (committed.slot === undefined || parts.layers.refusal(committed.slot) === undefined)) {
    outcomes.add('found', startedAt);
    throw alreadyThere(chainId);
  }
  const outcome = await ask(parts, request, parent);
  const result = outcome.kind === 'served' ? commitServed(parts, request, outcome) : outcome;
  outcomes.add(typeof result === 'string' ? result : result.code, startedAt);
  const log = parts.log.child({ chainId, image: outcome.image, layer: outcome.layer });
  if (typeof result === 'string') {
    log.info({ outcome: result }, 'layer served');
    throw alreadyThere(chainId);
  }
  log.info({ code: result.code, reason: result.reason }, 'layer left to containerd');
  return result;
}

function alreadyThere(chainId: string): SnapshotError {
  return new SnapshotError('ERR_SNAPSHOT_EXISTS', `layer ${chainId} is there already: nothing to unpack`);
}

function committedLayer(
  table: SnapshotTable,
  chainId: string,
  parent: SnapshotRow | undefined,
): SnapshotRow | undefined {
  return table.labelled(refLabel, chainId).find((row) => row.kind === 'committed' && row.parent?.id === parent?.id);
}

/** Anything that goes wrong leaves the layer to containerd, except that nobody waits for it any more. */
async function ask(
  { table, layers, timeoutMs, log }: ProvideParts,
  request: SnapshotRequest & { readonly chainId: string; readonly signal: AbortSignal },
  parent: SnapshotRow | undefined,
): Promise<ProvideOutcome> {
  const { chainId, labels } = request;
  if (!isDigest(chainId)) return deferred(labels, 'labels', `label ${refLabel} is not a digest`);
  const below = lowersOf(table, parent).map(({ slot }) => slot);
  const timeout = AbortSignal.timeout(timeoutMs);
  const signal = AbortSignal.any([request.signal, timeout]);
  try {
    return await untilAborted(layers.provide({ chainId, labels, below: below.toReversed(), signal }), signal);
  } catch (error) {
    if (request.signal.aborted) {
      throw new SnapshotError('ERR_SNAPSHOT_CANCELLED', 'the caller went away', { cause: error });
    }
    if (timeout.aborted) return deferred(labels, 'timeout', `not ready after ${timeoutMs} ms`);
    log.error({ chainId, error }, 'cannot provide a layer');
    return deferred(labels, 'error', errorMessage(error));
  }
}

/** Image and layer as far as containerd names them. */
function deferred(labels: Labels, code: Deferral['code'], reason: string): Deferral {
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
function commitServed(
  { table, layers }: ProvideParts,
  request: SnapshotRequest & { readonly chainId: string },
  served: Served,
): 'served' | 'found' | Deferral {
  const { chainId, labels } = request;
  const { slot, image, layer } = served;
  let unshown: number | undefined = slot;
  try {
    return table.durably(() => {
      const parent = committedParent(table, request.parent);
      const there = committedLayer(table, chainId, parent);
      if (there !== undefined) {
        if (there.slot === undefined || layers.refusal(there.slot) === undefined) return 'found';
        // The same layer by another index: what was made above its lost mount is as it was.
        table.show(there.id, slot);
        unshown = there.slot;
        return 'found';
      }
      // The same layer is a snapshot of its own above every other parent.
      const key = parent === undefined ? chainId : `${chainId}@${parent.id.toString(36)}`;
      if (table.get(key) !== undefined) return deferred(labels, 'error', `the name ${key} is taken`);
      table.insert({ key, kind: 'committed', parent: parent?.id, labels, slot, image, layer });
      unshown = undefined;
      return 'served';
    });
  } finally {
    if (unshown !== undefined && !table.isShown(unshown)) layers.released([unshown]);
  }
}
