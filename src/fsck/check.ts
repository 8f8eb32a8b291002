import { keptLayers } from '../image/cache-service.ts';
import type { OpenOrigin } from '../image/origin.ts';
import { errorMessage } from '../layer/errors.ts';
import type { LayerStore } from '../layer/layer-store.ts';
import type { Logger } from '../observe/log.ts';
import type { ProgressSink } from '../observe/progress.ts';
import type { Digest } from '../oci/digest.ts';
import type { State } from '../state/state.ts';
import type { Finding } from './finding.ts';

export interface FsckDeps {
  /** The state directory. */
  readonly root: string;
  readonly state: State;
  readonly store: LayerStore;
  readonly openOrigin: OpenOrigin;
  /** Requests for one layer at once. */
  readonly downloads: number;
  readonly log: Logger;
}

export interface CheckOptions {
  readonly repair: boolean;
  /** Waits until so many bytes more may be read. */
  readonly pace: (bytes: number, signal: AbortSignal) => Promise<void>;
  readonly signal: AbortSignal;
  readonly found: (finding: Finding) => void;
  readonly onProgress?: ProgressSink | undefined;
}

/** What fails of one thing is a finding, and keeps no other from being checked. Errors: the signal's reason. */
export async function guarded(
  { found, signal }: Pick<CheckOptions, 'found' | 'signal'>,
  where: Pick<Finding, 'place' | 'subject'>,
  work: () => Promise<void>,
): Promise<void> {
  try {
    await work();
  } catch (error) {
    signal.throwIfAborted();
    found({ ...where, what: `cannot be checked: ${errorMessage(error)}`, repaired: false, how: undefined });
  }
}

/** Whether a mount may need the layer that no process has open: then it is never removed. */
export function isKept(state: Pick<State, 'slots' | 'mounts'>, layer: Digest): boolean {
  return keptLayers(state).has(layer);
}
