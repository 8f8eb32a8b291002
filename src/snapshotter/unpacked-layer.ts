// A layer that peel unpacked becomes a committed snapshot with a directory of its own.
import { existsSync } from 'node:fs';
import { errorCode } from '../layer/errors.ts';
import type { UnpackedTree } from '../unpack/unpacker.ts';
import type { KeyedLock } from '../util/keyed-lock.ts';
import { committedLayer, isUsable, layerKey } from './committed-layer.ts';
import type { SnapshotParts, SnapshotRequest } from './create-snapshot.ts';
import { defer, deferralOf } from './deferral.ts';
import type { Deferral } from './deferral.ts';
import { removeDirectory, setDirectoryAttributes } from './directory-nodes.ts';
import type { FreshDirectory } from './directories.ts';
import { SnapshotError } from './errors.ts';
import { impliedAttributes } from './implied-directories.ts';
import type { ProvideOutcome } from './layer-provider.ts';
import { directoryView, lowerViews } from './lower-view.ts';
import { committedParent, lowersOf } from './parents.ts';
import type { SnapshotSync } from './snapshot-sync.ts';

export type Unpacked = Extract<ProvideOutcome, { kind: 'unpacked' }>;

export interface UnpackedParts extends SnapshotParts {
  readonly sync: SnapshotSync;
  /** By job: of several who were given one tree, one after the other prepares it. */
  readonly claims: KeyedLock<number>;
}

export interface LayerRequest extends SnapshotRequest {
  readonly chainId: string;
  readonly signal: AbortSignal;
}

/**
 * Durable when it returns, but for the directory, which its mark says. `found`: another call was faster. `taken`: somebody else's
 * snapshot has the tree now, and the layer has to be asked for once more. Errors: SnapshotError; the tree is released then.
 */
export async function commitUnpacked(
  parts: UnpackedParts,
  request: LayerRequest,
  unpacked: Unpacked,
): Promise<'unpacked' | 'found' | 'taken' | Deferral> {
  const { tree } = unpacked;
  try {
    return await parts.claims.run(tree.job, () => commitInTurn(parts, request, unpacked), { signal: request.signal });
  } catch (error) {
    if (request.signal.aborted)
      throw new SnapshotError('ERR_SNAPSHOT_CANCELLED', 'the caller went away', { cause: error });
    if (errorCode(error) === 'ERR_UNPACK_NOT_CLAIMABLE') return 'taken';
    if (error instanceof SnapshotError) throw error;
    return deferralOf(error);
  } finally {
    tree.release();
  }
}

async function commitInTurn(
  parts: UnpackedParts,
  request: LayerRequest,
  unpacked: Unpacked,
): Promise<'unpacked' | 'found' | 'taken' | Deferral> {
  const { table, directories, sync } = parts;
  const { tree } = unpacked;
  const parent = committedParent(table, request.parent);
  if (isUsable(parts, committedLayer(table, request.chainId, parent))) return 'found';
  if (!existsSync(tree.dir)) return 'taken';
  const blocked = await completeImplied(parts, tree, parent, request.signal);
  if (blocked !== undefined) return defer('layer', blocked);
  const fresh = await directories.make({ mode: 0o755, uid: 0, gid: 0 }, { work: false });
  try {
    const claimed = claim(parts, request, unpacked, fresh);
    if (claimed === 'found') return 'found';
    sync.written();
    return 'unpacked';
  } finally {
    await directories.discard(fresh);
  }
}

/** Why the layer cannot stand above these layers; undefined when it does now. */
async function completeImplied(
  parts: UnpackedParts,
  { dir, implied, hiding }: UnpackedTree,
  parent: { readonly id: number } | undefined,
  signal: AbortSignal,
): Promise<string | undefined> {
  const lowers = lowersOf(parts.table, parent);
  if (implied.length === 0 || lowers.length === 0) return undefined;
  const own = directoryView('the layer', dir, parts);
  const known = await impliedAttributes(implied, own, lowerViews(parts, lowers), { signal });
  if (known.kind === 'blocked') return known.reason;
  // First, as it changes the times of what they are in.
  for (const path of hiding) if (!known.attributes.has(path)) await removeDirectory(dir, path);
  for (const [path, attributes] of known.attributes) {
    signal.throwIfAborted();
    await setDirectoryAttributes(dir, path, attributes);
  }
  return undefined;
}

/** Row and directory in one go. What was checked before somebody was waited for is checked again. */
function claim(
  parts: UnpackedParts,
  request: LayerRequest,
  { tree, image, layer, reason }: Unpacked,
  fresh: FreshDirectory,
): number | 'found' {
  const { table, directories, layers, boot } = parts;
  const { chainId, labels } = request;
  const parent = committedParent(table, request.parent);
  const there = committedLayer(table, chainId, parent);
  if (isUsable(parts, there)) return 'found';
  const undo: (() => void)[] = [];
  let id: number;
  try {
    id = tree.claim((dir) => {
      const given = there?.id ?? insert();
      if (there !== undefined) table.hold(there.id, { reason, unsynced: boot });
      directories.fill(fresh, dir);
      undo.unshift(() => directories.empty(fresh, dir));
      directories.adopt(fresh, given);
      undo.unshift(() => directories.giveBack(fresh, given));
      return given;
    });
  } catch (error) {
    for (const step of undo) step();
    throw error;
  }
  // What it showed before could not be used.
  if (there?.slot !== undefined && !table.isShown(there.slot)) layers.released([there.slot]);
  return id;

  function insert(): number {
    const key = layerKey(chainId, parent);
    if (table.get(key) !== undefined) throw new Error(`the name ${key} is taken`);
    const row = { key, labels, image, layer, reason, parent: parent?.id, unpacked: true, unsynced: boot };
    return table.insert({ ...row, kind: 'committed' });
  }
}
